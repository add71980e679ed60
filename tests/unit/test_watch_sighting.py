"""How old a login is, by what its line says of its time."""

import time
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.watch.observed_login import Clocks, DoubtError, age_s

GRACE_S = 1800.0
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def event(stamp):
    return Event("login", "dovecot", "198.51.100.7", "alice", "imap", stamp)


def age(stamp, now, live_since=None):
    """Return the age at *now*, a local time; on the monotonic clock it is second 1000."""
    return age_s(event(stamp), Clocks(now.timestamp(), 1000.0), live_since, GRACE_S)


def local(*fields, fold=0):
    return datetime(*fields, tzinfo=BERLIN, fold=fold)


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("Jun 14 12:00:00", 0),
        ("Jun 14 11:59:59", 1),
        ("Jun 14 11:30:00", 1800),
        ("Jun 14 12:00:01", 0),
        ("Jun 14 12:00:02", 60),
        ("Jun 14 12:01:00", 60),
        ("2026-06-14T12:00:00+02:00", 0),
        ("2026-06-14T09:50:00Z", 600),
    ],
)
def test_a_line_counts_from_its_own_time(stamp, seconds):
    assert age(stamp, local(2026, 6, 14, 12)) == seconds


@pytest.mark.parametrize(("looked_s", "seconds"), [(0.25, 0.25), (50, 50), (90, 60)])
def test_a_line_from_the_future_is_as_old_as_the_last_look_before_it(looked_s, seconds):
    """Not of now: it may have been written before a revocation that came since."""
    now = local(2026, 6, 14, 12)
    assert age("Jun 14 12:00:30", now, live_since=1000.0 - looked_s) == seconds
    assert age("Jun 14 12:00:00", now, live_since=1000.0 - looked_s) == 0


@pytest.mark.parametrize(
    ("stamp", "why"),
    [
        ("Jun 14 11:29:59", "old"),
        ("Jun 13 12:00:00", "old"),
        ("Jun 14 12:01:01", "ahead"),
        ("Jun 15 11:00:00", "ahead"),
        ("Jun 16 12:00:00", "old"),
        ("2027-06-14T12:00:00Z", "no such time"),
        ("Foo 14 12:00:00", "no such time"),
        ("", "without time"),
    ],
)
def test_a_line_that_is_old_or_ahead_does_not_count(stamp, why):
    with pytest.raises(DoubtError, match=why):
        age(stamp, local(2026, 6, 14, 12))


@pytest.mark.parametrize("stamp", ["Jun 14 11:29:59", "Jun 14 12:01:01", "2027-06-14T12:00:00Z"])
def test_a_stamp_counts_more_than_that_the_line_was_just_written(stamp):
    with pytest.raises(DoubtError):
        age(stamp, local(2026, 6, 14, 12), live_since=999.0)


def test_a_line_without_a_time_counts_from_the_last_look_before_it():
    assert age("", local(2026, 6, 14, 12), live_since=999.75) == 0.25
    with pytest.raises(DoubtError, match="old"):
        age("", local(2026, 6, 14, 12), live_since=1000.0 - GRACE_S - 1)


def test_the_last_minute_of_a_year_is_in_the_year_before():
    assert age("Dec 31 23:59:30", local(2027, 1, 1, 0, 0, 30)) == 60
    # Ahead by 20 s, so as old as a line from the future: neither a year old nor of now.
    assert age("Jan  1 00:00:10", local(2026, 12, 31, 23, 59, 50)) == 60


def test_the_29th_of_february_is_of_the_last_leap_year():
    assert age("Feb 29 23:50:00", local(2028, 3, 1, 0, 10)) == 1200
    with pytest.raises(DoubtError, match="old"):
        age("Feb 29 23:50:00", local(2026, 3, 1, 0, 10))


def test_over_the_beginning_of_summer_time_no_login_is_an_hour_older():
    now = local(2026, 3, 29, 3, 5)
    assert age("Mar 29 01:55:00", now) == 600


def test_the_hour_that_comes_twice_is_the_first_one_for_a_backlog():
    second = local(2026, 10, 25, 2, 30, fold=1)
    with pytest.raises(DoubtError, match="old"):
        age("Oct 25 02:30:00", second)


def test_the_hour_that_comes_twice_is_the_second_one_for_what_was_just_written():
    second = local(2026, 10, 25, 2, 30, fold=1)
    assert age("Oct 25 02:30:00", second, live_since=999.0) == 0
    first = local(2026, 10, 25, 2, 30)
    assert age("Oct 25 02:29:00", first, live_since=999.0) == 60


def test_a_time_with_its_zone_is_never_taken_for_another():
    second = local(2026, 10, 25, 2, 30, fold=1)
    stamp = f"{datetime.fromtimestamp(second.timestamp() - 3600, UTC):%Y-%m-%dT%H:%M:%SZ}"
    with pytest.raises(DoubtError, match="old"):
        age(stamp, second, live_since=999.0)
