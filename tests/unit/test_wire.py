"""The line between wrapper and recorder."""

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.wire import (
    LONGEST_LINE,
    format_answer,
    format_request,
    parse_answer,
    parse_request,
    parse_timed_request,
    read_clocks,
)


def test_request_looks_as_documented():
    line = format_request("2001:db8::7", "änne 100%".encode(), b"imap")
    assert line == b"popbsmtp/1\t2001:db8::7\t%C3%A4nne%20100%25\timap\n"
    assert parse_request(line) == ("2001:db8::7", "änne 100%".encode(), b"imap")


def test_unknown_user_and_service_are_empty():
    line = format_request("198.51.100.7", b"", b"")
    assert line == b"popbsmtp/1\t198.51.100.7\t\t\n"
    assert parse_request(line) == ("198.51.100.7", b"", b"")


@given(st.binary(max_size=1020), st.binary(max_size=80))
def test_every_user_and_service_comes_back_as_it_went(user, service):
    line = format_request("198.51.100.7", user, service)
    assert len(line) <= LONGEST_LINE
    assert line.count(b"\n") == 1
    assert parse_request(line) == ("198.51.100.7", user, service)


def test_over_long_user_and_service_are_cut_to_fit():
    line = format_request("f" * 45, b"\xff" * 100_000, b"\0" * 100_000)
    assert len(line) <= LONGEST_LINE
    assert parse_request(line) == ("f" * 45, b"\xff" * 1020, b"\0" * 80)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"popbsmtp/1\t198.51.100.7\ta\timap",
        b"popbsmtp/1\t198.51.100.7\ta\n",
        b"popbsmtp/1\t198.51.100.7\ta\timap\tmore\n",
        b"popbsmtp/2\t198.51.100.7\ta\timap\n",
        b"GET / HTTP/1.1\r\n",
        b"popbsmtp/1\t198.51.100.7\ta%\timap\n",
        b"popbsmtp/1\t198.51.100.7\ta%4\timap\n",
        b"popbsmtp/1\t198.51.100.7\ta%zz\timap\n",
        b"popbsmtp/1\t198.51.100.7\ta%+1\timap\n",
        b"popbsmtp/1\t198.51.100.7\ta%  \timap\n",
        b"popbsmtp/1\t198.51.100.7\ta b\timap\n",
        b"popbsmtp/1\t198.51.100.7\ta\nb\timap\n",
        b"popbsmtp/1\t198.51.100.7\ta\0b\timap\n",
        b"popbsmtp/1\t198.51.100.7\t\xc3\xa4\timap\n",
        b"popbsmtp/1\t\xd9\xa3.1.1.1\ta\timap\n",
        b"popbsmtp/1\t198.51.100.7\t" + b"a" * 4096 + b"\timap\n",
    ],
)
def test_line_of_another_protocol_is_refused(line):
    with pytest.raises(ValueError):  # noqa: PT011 - each has words of its own
        parse_request(line)


@given(
    st.one_of(
        st.binary(max_size=4096),
        st.lists(st.binary(max_size=300), max_size=6).map(
            lambda fields: b"popbsmtp/1\t" + b"\t".join(fields) + b"\n"
        ),
    )
)
def test_any_line_is_a_request_or_a_value_error(line):
    try:
        address, user, service = parse_request(line)
    except ValueError:
        return
    assert address.isascii()
    assert parse_request(format_request(address, user[:1020], service[:80])) == (
        address,
        user[:1020],
        service[:80],
    )


@given(st.binary(max_size=4096))
def test_any_line_is_an_answer(line):
    word, text = parse_answer(line)
    assert (word + text).isascii()


@given(st.sampled_from(["OK", "NO", "WAIT"]), st.text(max_size=4096))
def test_answer_is_one_line_that_comes_back(word, text):
    line = format_answer(word, text)
    assert len(line) <= LONGEST_LINE
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    flat = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    assert parse_answer(line[:-1]) == (word, flat[: LONGEST_LINE - 2 - len(word)])


@pytest.mark.parametrize("age_s", [0, 1, 1800, 999_999_999])
def test_a_request_tells_how_old_its_login_is(age_s):
    line = format_request("198.51.100.7", b"alice", b"imap", age_s)
    assert parse_timed_request(line) == ("198.51.100.7", b"alice", b"imap", age_s, None)


MOMENT = (b"4026531834", 123_456_789_012, 1_795_700_000_123_456_789)


@pytest.mark.parametrize("moment", [MOMENT, (b"", 0, 0)])
@pytest.mark.parametrize("age_s", [0, 90])
def test_a_request_tells_when_its_login_was(age_s, moment):
    line = format_request("198.51.100.7", b"alice", b"imap", age_s, moment)
    assert parse_timed_request(line) == ("198.51.100.7", b"alice", b"imap", age_s, moment)


def test_a_request_with_a_moment_looks_as_documented():
    assert format_request("198.51.100.7", b"a", b"", moment=MOMENT) == (
        b"popbsmtp/1\t198.51.100.7\ta\t\t0\t4026531834\t123456789012\t1795700000123456789\n"
    )


def test_longest_request_with_a_moment_fits():
    moment = (b"9" * 20, 10**20 - 1, 10**20 - 1)
    line = format_request("f" * 45, b"\xff" * 1020, b"\0" * 80, 999_999_999, moment)
    assert len(line) <= LONGEST_LINE
    assert parse_timed_request(line)[-1] == moment


def test_clocks_are_those_of_this_process():
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    clock, *now = read_clocks()
    after = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
    assert int(clock) == os.stat("/proc/self/ns/time").st_ino
    assert all(b <= n <= a for b, n, a in zip(before, now, after, strict=True))


def test_a_request_with_an_age_looks_as_documented():
    assert format_request("198.51.100.7", b"", b"", 90) == b"popbsmtp/1\t198.51.100.7\t\t\t90\n"
    assert format_request("198.51.100.7", b"", b"", 0) == b"popbsmtp/1\t198.51.100.7\t\t\n"


@pytest.mark.parametrize(
    "end",
    [
        *(b"\t\n", b"\t-1\n", b"\t+1\n", b"\t1.5\n", b"\t1_0\n", b"\t 1\n", b"\t1000000000\n"),
        *(b"\t1", b"\t1\t1\n", b"\t\xd9\xa3\n", b"\t1\n\n", b"\tmore\n"),
        *(b"\t1\t7\t5\n", b"\t1\t7\t5\t5\t5\n", b"\t1\t7\t5\t\n", b"\t1\t7\t-5\t5\n"),
        *(b"\t\t7\t5\t5\n", b"\t1\t7\t5\t5", b"\t1\tx\t5\t5\n", b"\t1\t7\t5\t5\xb2\n"),
        b"\t1\t7\t5\t123456789012345678901\n",
    ],
)
def test_what_is_no_age_is_refused(end):
    with pytest.raises(ValueError, match=r"no age|no moment|not a popbsmtp/1|no complete"):
        parse_timed_request(b"popbsmtp/1\t198.51.100.7\ta\timap" + end)


def test_the_wrappers_own_requests_have_no_age():
    with pytest.raises(ValueError, match="not a popbsmtp/1 request"):
        parse_request(b"popbsmtp/1\t198.51.100.7\ta\timap\t5\n")
