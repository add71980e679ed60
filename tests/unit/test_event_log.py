"""Events of the recorder."""

import json
import os
import shlex
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.daemon.event_log import EventLog, format_event

_MORE_THAN_A_PIPE = 1 << 24


def test_an_event_is_one_line_of_keys_and_values():
    assert (
        format_event("spool_dropped", {"corrupt": 1, "took_s": 0.25, "directory": "/var/spool/x"})
        == "event=spool_dropped corrupt=1 took_s=0.250 directory=/var/spool/x"
    )


def test_what_is_none_is_left_out():
    assert format_event("stopped", {"lost": None}) == "event=stopped"


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('say "x"', '"say \\"x\\""'),
        ("line\nevent=forged", '"line\\nevent=forged"'),
        ("änne\x1b[2J", '"\\u00e4nne\\u001b[2J"'),
        ("", '""'),
    ],
)
def test_what_could_begin_a_line_or_a_field_is_quoted(value, written):
    assert format_event("bad_request", {"error": value}) == f"event=bad_request error={written}"


@given(st.text(max_size=400))
def test_every_value_comes_back_and_stays_in_its_field(value):
    line = format_event("x", {"error": value, "uid": 0})
    assert line.isascii()
    assert line.isprintable()
    assert line.startswith("event=x error=")
    assert line.endswith(" uid=0")
    field = line.removeprefix("event=x error=").removesuffix(" uid=0")
    assert (json.loads(field) if field.startswith('"') else field) == value


def test_a_long_value_is_cut():
    assert len(format_event("x", {"error": "y" * 100_000})) < 600


@contextmanager
def stderr_in_a_pipe():
    """Give the end that reads it. No fixture: pytest changes descriptor 2 after those."""
    read, write = os.pipe()
    kept = os.dup(2)
    os.dup2(write, 2)
    os.close(write)
    try:
        yield read
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(read)


def test_events_of_one_name_beyond_twenty_are_only_counted():
    log = EventLog("stderr")
    with stderr_in_a_pipe() as pipe:
        for number in range(50):
            log.event("peer_refused", uid=number)
        log.event("started")
        lines = os.read(pipe, 65536).decode().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [
        *(f"event=peer_refused uid={number}" for number in range(20)),
        "event=started",
    ]


def test_a_pipe_that_nobody_reads_holds_nothing_up():
    with stderr_in_a_pipe() as pipe:
        os.set_blocking(2, False)
        filled = 0
        with suppress(BlockingIOError):
            while filled < _MORE_THAN_A_PIPE:
                filled += os.write(2, b"x" * 65536)
        os.set_blocking(2, True)
        EventLog("stderr").event("started")
        assert 0 < filled < _MORE_THAN_A_PIPE
        assert os.read(pipe, _MORE_THAN_A_PIPE) == b"x" * filled


def test_lines_carry_their_time_except_in_the_journal(monkeypatch):
    with stderr_in_a_pipe() as pipe:
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        EventLog("stderr").event("started")
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
        EventLog("stderr").event("started")
        first, second = os.read(pipe, 65536).decode().splitlines()
    assert second == "event=started"
    stamp, event = shlex.split(first)
    assert event == "event=started"
    assert stamp.startswith("time=2")
    assert stamp.endswith("Z")
