from pathlib import Path

import pytest

from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.recogniser import Recogniser
from popbsmtp_wrap.logs.servers import SERVERS

# Tab-separated: server, version, address and user or "-", source, line.
REAL = Path(__file__).resolve().parents[3] / "shared" / "loglines.tsv"


def proved(recogniser, line):
    event = recogniser.judge(line)
    is_login = isinstance(event, Event) and event.kind == "login"
    return (event.address, event.user) if is_login else ("", "")


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.name)
def test_each_sample_proves_what_stands_beside_it(server):
    recogniser = Recogniser()
    for sample in server.samples:
        line = sample.line.encode()
        assert proved(recogniser, line) == (sample.address, sample.user), sample.line


def test_real_lines_prove_what_stands_beside_them():
    """Where the collection of real lines is not beside the repository, the samples stand for it."""
    recogniser = Recogniser()
    for row in REAL.read_bytes().split(b"\n")[1:] if REAL.exists() else ():
        if row:
            _, _, address, user, _, line = row.split(b"\t", 5)
            expected = tuple("" if text == b"-" else text.decode() for text in (address, user))
            assert proved(recogniser, line) == expected, line


@pytest.mark.parametrize("field", ["x<", "x<y", "<", "x<y<z>"])
def test_an_angle_bracket_that_nothing_closes_is_no_field(field):
    head = "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>"
    line = f"{head}, {field}, rip=198.51.100.7, lip=192.0.2.1"
    assert proved(Recogniser(), line.encode()) == ("", "")
