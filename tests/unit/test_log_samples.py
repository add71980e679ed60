import os

import pytest

from popbsmtp_wrap.sources.logs.event import Event
from popbsmtp_wrap.sources.logs.recogniser import Recogniser
from popbsmtp_wrap.sources.logs.servers import SERVERS

# Real lines beside the repository; in a clone elsewhere the samples alone stand for them.
_REAL = os.path.join(os.path.dirname(__file__), "../../../shared/loglines.tsv")
_FILES = [path for path in (_REAL, "/work/shared/loglines.tsv") if os.path.exists(path)][:1]


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
    recogniser = Recogniser()
    for path in _FILES:
        with open(path, "rb") as file:
            rows = [row.split(b"\t", 5) for row in file.read().split(b"\n")[1:] if row]
        for _, _, address, user, _, line in rows:
            expected = tuple(
                text.decode().replace("-", "") if text == b"-" else text.decode()
                for text in (address, user)
            )
            assert proved(recogniser, line) == expected, line
