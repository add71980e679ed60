"""What the times at the start of lines mean, in several zones."""

import time
from datetime import UTC, datetime

import pytest

from popbsmtp_wrap.logs.timestamps import apart_s, moment


def at(text):
    return datetime.fromisoformat(text).timestamp()


NOON = at("2026-06-14T12:00:00+00:00")


@pytest.fixture
def zone(monkeypatch):
    def choose(name):
        monkeypatch.setenv("TZ", name)
        time.tzset()

    choose("UTC")
    yield choose
    monkeypatch.undo()
    time.tzset()


def shown(stamp, now=NOON):
    seconds = moment(stamp, now)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()[:-6]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("Jun 14 10:00:00", "2026-06-14T10:00:00"),
        ("Jun  4 10:00:00", "2026-06-04T10:00:00"),
        ("Jun 4 10:00:00", "2026-06-04T10:00:00"),
        ("Jun 14 10:00:00.500", "2026-06-14T10:00:00.500000"),
        ("Apr 30 2003 10:00:00", "2003-04-30T10:00:00"),
        ("2026-06-14T10:00:00Z", "2026-06-14T10:00:00"),
        ("2026-06-14T10:00:00.250+02:00", "2026-06-14T08:00:00.250000"),
        ("2026-06-14T10:00:00+0200", "2026-06-14T08:00:00"),
        ("2026-06-14T10:00:00-03:30", "2026-06-14T13:30:00"),
        ("2026-06-14 10:00:00", "2026-06-14T10:00:00"),
        ("2026-06-14 10:00:00,250", "2026-06-14T10:00:00.250000"),
        ("Sun 2026-06-14 10:00:00 UTC", "2026-06-14T10:00:00"),
        ("2026/06/14 10:00:00", "2026-06-14T10:00:00"),
        ("Tue Jun 13 10:00:00 2000", "2000-06-13T10:00:00"),
        ("1781431200.123456", "2026-06-14T10:00:00.123456"),
        # 10 seconds between TAI and UTC in 1970; daemontools counts no leap seconds.
        ("@400000006a2e7baa1dcd6500", "2026-06-14T10:00:00.500000"),
        ("Jun 14 10:00:60", "2026-06-14T10:00:59"),
    ],
)
def test_a_stamp_means_its_moment(zone, stamp, expected):
    assert shown(stamp) == expected


@pytest.mark.parametrize(
    "stamp",
    ["", "Jun 31 10:00:00", "Foo 14 10:00:00", "Jun 14 25:00:00", "2026-13-01T10:00:00Z", "10:00"],
)
def test_what_is_no_time_is_none(zone, stamp):
    assert moment(stamp, NOON) is None


def test_december_read_in_january_is_of_the_year_before(zone):
    now = at("2027-01-01T00:05:00+00:00")
    assert shown("Dec 31 23:59:00", now) == "2026-12-31T23:59:00"
    assert shown("Jan  1 00:01:00", now) == "2027-01-01T00:01:00"


def test_january_read_on_a_clock_still_in_december_is_of_the_next_year(zone):
    now = at("2026-12-31T23:59:58+00:00")
    assert shown("Jan  1 00:00:01", now) == "2027-01-01T00:00:01"


def test_a_stamp_of_more_than_a_day_ahead_is_of_last_year(zone):
    assert shown("Jun 15 11:59:59") == "2026-06-15T11:59:59"
    assert shown("Jun 15 12:00:01") == "2025-06-15T12:00:01"


def test_a_year_that_is_ahead_is_no_time(zone):
    assert moment("2026-06-15T12:00:01Z", NOON) is None
    assert moment("2031-01-01T00:00:00Z", NOON) is None


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2028-03-01T00:00:00+00:00", "2028-02-29T10:00:00"),
        ("2027-03-01T00:00:00+00:00", "2024-02-29T10:00:00"),
        ("2103-03-01T00:00:00+00:00", "2096-02-29T10:00:00"),
    ],
)
def test_a_leap_day_is_of_the_last_year_that_had_one(zone, now, expected):
    assert shown("Feb 29 10:00:00", at(now)) == expected


def test_a_stamp_without_a_zone_is_local(zone):
    zone("Europe/Berlin")
    assert shown("Jun 14 10:00:00") == "2026-06-14T08:00:00"
    assert shown("2026-06-14T10:00:00") == "2026-06-14T08:00:00"
    assert shown("2026-06-14T10:00:00Z") == "2026-06-14T10:00:00"
    zone("America/New_York")
    assert shown("Jun 14 07:00:00") == "2026-06-14T11:00:00"


def test_an_hour_that_summer_time_skips_is_near_it(zone):
    zone("Europe/Berlin")
    now = at("2026-03-29T12:00:00+00:00")
    assert shown("Mar 29 01:59:59", now) == "2026-03-29T00:59:59"
    assert shown("Mar 29 02:30:00", now) in ("2026-03-29T00:30:00", "2026-03-29T01:30:00")
    assert shown("Mar 29 03:00:00", now) == "2026-03-29T01:00:00"


def test_an_hour_that_comes_twice_is_the_first(zone):
    zone("Europe/Berlin")
    now = at("2026-10-25T12:00:00+00:00")
    assert shown("Oct 25 02:30:00", now) == "2026-10-25T00:30:00"
    assert shown("Oct 25 03:00:00", now) == "2026-10-25T02:00:00"


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ("", "", 0),
        ("Jun 14 10:00:00", "", None),
        ("Jun 14 10:00:00", "Jun 14 10:00:07", 7),
        ("Dec 31 23:59:59", "Jan  1 00:00:01", 2),
        ("2026-06-14T10:00:00Z", "2026-06-14T12:00:05+02:00", 5),
    ],
)
def test_seconds_between_two_stamps(zone, earlier, later, expected):
    assert apart_s(earlier, later) == expected
