"""The addresses that were written a moment ago."""

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.recent_addresses import RecentAddresses

REFRESH_S = 30.0


def test_an_address_is_remembered_for_refresh_and_not_longer():
    recent = RecentAddresses(REFRESH_S)
    recent.add("198.51.100.7", 1000.0)
    assert recent.covers(Login("198.51.100.7"), 1029.9)
    assert not recent.covers(Login("198.51.100.7"), 1030.0)
    assert not recent.covers(Login("198.51.100.8"), 1000.0)


def test_a_late_login_does_not_make_a_remembered_address_older():
    recent = RecentAddresses(REFRESH_S)
    recent.add("198.51.100.7", 1000.0)
    recent.add("198.51.100.7", 980.0)
    assert recent.covers(Login("198.51.100.7"), 1029.9)


def test_without_refresh_every_login_is_written():
    recent = RecentAddresses(0)
    recent.add("198.51.100.7", 1000.0)
    assert not recent.covers(Login("198.51.100.7"), 1000.0)


def test_a_forgotten_address_is_written_again():
    recent = RecentAddresses(REFRESH_S)
    recent.add("198.51.100.7", 1000.0)
    recent.add("198.51.100.8", 1000.0)
    recent.forget(["198.51.100.7", "203.0.113.1"])
    assert not recent.covers(Login("198.51.100.7"), 1000.0)
    assert recent.covers(Login("198.51.100.8"), 1000.0)
    recent.write_again(None)
    assert not recent.covers(Login("198.51.100.8"), 1000.0)


def test_only_so_many_are_remembered_and_the_one_written_first_goes():
    recent = RecentAddresses(REFRESH_S, most=2)
    recent.add("198.51.100.1", 1000.0)
    recent.add("198.51.100.2", 1001.0)
    recent.add("198.51.100.1", 1002.0)
    recent.add("198.51.100.3", 1003.0)
    held = [last for last in range(1, 4) if recent.covers(Login(f"198.51.100.{last}"), 1003.0)]
    assert held == [1, 3]
    assert len(recent) == 2


def test_without_room_to_look_after_a_login_it_is_written():
    recent = RecentAddresses(REFRESH_S, most=2)
    for last in (1, 2):
        recent.add(f"198.51.100.{last}", 1000.0)
        assert recent.covers(Login(f"198.51.100.{last}"), 1001.0)
    recent.add("198.51.100.3", 1001.0)
    assert not recent.covers(Login("198.51.100.3"), 1002.0)
    assert recent.covers(Login("198.51.100.2"), 1002.0)
    assert len(recent.take_hits()) == 2
    assert recent.covers(Login("198.51.100.3"), 1002.0)


def test_what_was_before_a_remembered_login_needs_no_writing():
    recent = RecentAddresses(REFRESH_S)
    recent.add("198.51.100.7", 1000.0)
    assert recent.covers(Login("198.51.100.7"), 400.0)


def test_an_old_login_answers_no_later_one():
    recent = RecentAddresses(REFRESH_S)
    recent.add("198.51.100.7", 400.0)
    assert not recent.covers(Login("198.51.100.7"), 1000.0)


def test_a_login_that_is_to_be_written_again_does_not_lose_the_one_that_needed_no_write():
    recent = RecentAddresses(REFRESH_S)
    for number in (7, 8):
        recent.add(f"198.51.100.{number}", 1000.0)
        assert recent.covers(Login(f"198.51.100.{number}"), 1001.0)
    recent.write_again(["198.51.100.7"])
    assert not recent.covers(Login("198.51.100.7"), 1002.0)
    assert recent.covers(Login("198.51.100.8"), 1002.0)
    recent.write_again(None)
    assert not recent.covers(Login("198.51.100.8"), 1003.0)
    assert set(recent.take_hits()) == {"198.51.100.7", "198.51.100.8"}
