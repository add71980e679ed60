"""What a log file that grows is read as."""

import time

import pytest

from popbsmtp_wrap.logs.file_position import open_log
from popbsmtp_wrap.logs.open_log import OpenLog


@pytest.fixture
def log(tmp_path):
    return tmp_path / "mail.log"


def opened(log, offset=0):
    return OpenLog(open_log(str(log), follow_links=True), offset)


def pieces(reading):
    """Return (lines, live_since) of what there is."""
    found = []
    while piece := reading.read(time.monotonic()):
        found.append((piece.lines, piece.live_since))
    return found


def test_lines_written_while_the_first_ones_are_read_are_live(log):
    log.write_bytes(b"before\nbefore\n")
    reading = opened(log)
    with log.open("ab") as file:
        file.write(b"after\n")
    (before, nobody_looked), (after, live_since) = pieces(reading)
    assert (before, after) == ([b"before", b"before"], [b"after"])
    assert nobody_looked is None
    assert live_since <= time.monotonic()
    reading.close()


def test_a_log_that_was_read_to_its_end_before_gives_live_lines_only_from_now_on(log):
    log.write_bytes(b"read\nmissed\n")
    reading = opened(log, len(b"read\n"))
    assert pieces(reading) == [([b"missed"], None)]
    with log.open("ab") as file:
        file.write(b"after\n")
    ((after, live_since),) = pieces(reading)
    assert after == [b"after"]
    assert live_since is not None
    reading.close()


def test_an_empty_log_is_live_from_its_opening(log):
    log.touch()
    before = time.monotonic()
    reading = opened(log)
    log.write_bytes(b"first\n")
    ((lines, live_since),) = pieces(reading)
    assert lines == [b"first"]
    assert before <= live_since <= time.monotonic()
    reading.close()


def test_a_line_that_was_begun_before_and_ended_after_is_one_line(log):
    log.write_bytes(b"whole\nbeg")
    reading = opened(log)
    with log.open("ab") as file:
        file.write(b"un\nnext\n")
    assert [lines for lines, _ in pieces(reading)] == [[b"whole"], [b"begun", b"next"]]
    reading.close()
