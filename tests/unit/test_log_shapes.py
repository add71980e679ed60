"""Lines in shapes that servers, syslog daemons and outsiders give them; beside the samples."""

from pathlib import Path

from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.recogniser import Recogniser

LINES = Path(__file__).with_name("log_lines")


def test_logins_in_other_shapes_are_recognised():
    """Each line has the address and the user before it."""
    for row in (LINES / "logins.tsv").read_text("utf-8").splitlines():
        address, user, line = row.split("\t", 2)
        found = Recogniser().recognise(line.encode())
        assert found, line
        assert (found.kind, found.address, found.user) == ("login", address, user), line


def test_nobody_gets_in_by_a_line_that_reads_like_a_login():
    recogniser = Recogniser()
    for line in (LINES / "hostile.log").read_bytes().splitlines():
        found = recogniser.judge(line)
        assert not isinstance(found, Event) or found.kind == "failure", line


def test_many_of_these_lines_at_once_are_the_same():
    rows = (LINES / "logins.tsv").read_bytes().splitlines()
    lines = [
        *(row.split(b"\t", 2)[2] for row in rows),
        *(LINES / "hostile.log").read_bytes().splitlines(),
    ]
    found = [event for _, event in Recogniser(kinds=("login",)).events(b"\n".join(lines))]
    assert [event.address for event in found] == [row.split(b"\t")[0].decode() for row in rows]
