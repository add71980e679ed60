"""Servers that log the address in one line and the user in another: joined by their process."""

import pytest

from popbsmtp_wrap.logs.correlation import Memory
from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.recogniser import Recogniser

BOUND = 20_000


def logins(lines, recogniser=None):
    recogniser = recogniser or Recogniser()
    events = [recogniser.recognise(line.encode()) for line in lines]
    return [(e.address, e.user) for e in events if isinstance(e, Event) and e.kind == "login"]


def session(pid, number, host="mx", at="10:00:00"):
    return f"Jun 14 {at} {host} popa3d[{pid}]: Session from 198.51.100.{number}"


def passed(pid, user, host="mx", at="10:00:00"):
    return f"Jun 14 {at} {host} popa3d[{pid}]: Authentication passed for {user}"


def test_each_process_has_its_own_client():
    lines = [session(1, 11), session(2, 22), session(3, 33)]
    lines += [passed(2, "bob"), passed(3, "carol"), passed(1, "alice")]
    assert logins(lines) == [
        ("198.51.100.22", "bob"),
        ("198.51.100.33", "carol"),
        ("198.51.100.11", "alice"),
    ]


def test_processes_of_two_hosts_with_one_number_are_two():
    lines = [session(1, 11), session(1, 22, "mx2"), passed(1, "alice"), passed(1, "bob", "mx2")]
    assert logins(lines) == [("198.51.100.11", "alice"), ("198.51.100.22", "bob")]


def test_processes_of_two_servers_with_one_number_are_two():
    lines = ["Jun 14 10:00:00 mx spop3d[1]: connect from 198.51.100.9", passed(1, "bob")]
    assert logins(lines) == []


def test_a_login_takes_the_address_with_it():
    assert logins([session(1, 11), passed(1, "alice"), passed(1, "bob")]) == [
        ("198.51.100.11", "alice")
    ]


def test_a_failure_forgets_the_address():
    failed = "Jun 14 10:00:00 mx popa3d[1]: Authentication failed for bob"
    assert logins([session(1, 11), failed, passed(1, "alice")]) == []


def test_a_process_that_begins_anew_has_the_newer_address():
    assert logins([session(1, 11), session(1, 22), passed(1, "bob")]) == [("198.51.100.22", "bob")]


def test_without_a_process_nothing_is_joined():
    lines = ["Jun 14 10:00:00 mx popa3d: Session from 198.51.100.7"]
    assert logins([*lines, "Jun 14 10:00:00 mx popa3d: Authentication passed for bob"]) == []


@pytest.mark.parametrize(("at", "count"), [("10:09:59", 1), ("10:10:00", 1), ("10:10:01", 0)])
def test_ten_minutes_later_the_number_may_be_another_process(at, count):
    assert len(logins([session(1, 11), passed(1, "bob", at=at)])) == count


def test_an_address_that_is_none_is_not_joined():
    lines = ["Jun 14 10:00:00 mx popa3d[1]: Session from 198.51.100", passed(1, "bob")]
    assert logins(lines) == []


def test_sessions_without_end_take_no_more_memory():
    recogniser = Recogniser()
    lines = (session(pid, pid % 250 + 1) for pid in range(5 * BOUND))
    assert logins(lines, recogniser) == []
    assert len(recogniser._clients) <= BOUND
    # The newest are still there.
    assert logins([passed(5 * BOUND - 1, "bob")], recogniser) == [("198.51.100.250", "bob")]
    assert logins([passed(1, "bob")], recogniser) == []


def test_the_memory_gives_the_newer_value_and_forgets_the_older():
    memory = Memory(2)
    memory.put(("a",), 1)
    memory.put(("b",), 2)
    memory.put(("a",), 3)
    assert memory.take(("a",)) == 3
    assert memory.take(("a",)) is None
    assert memory.take(("b",)) == 2
    assert len(memory) == 0
