"""Logins in memory alone: at most so many addresses, the latest login of each, nobody forgotten."""

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.overflow import Overflow
from popbsmtp_wrap.recorder.pending_login import PendingLogin

ADDRESS, OTHER = "198.51.100.1", "198.51.100.2"


def pending(user, since=0.0, answer=None, address=ADDRESS):
    return PendingLogin(Login(address, user, "imap"), since, answer)


def test_there_is_room_for_so_many_addresses():
    overflow = Overflow(1)
    assert overflow.add(pending("ann"))
    assert not overflow.add(pending("ann", address=OTHER))
    assert overflow.add(pending("bob", 1.0))
    assert len(overflow) == 1


def test_commit_of_a_login_that_was_kept_says_nothing_of_one_that_came_later():
    """The known one may have been taken out for a commit and be back before that has landed."""
    overflow, said = Overflow(10), []
    early, late = pending("ann", answer=said.append), pending("bob", 1.0, said.append)
    assert overflow.add(early)
    assert overflow.add(late)
    early.answer(None)
    assert said == []
    assert not early.is_open
    [kept] = overflow.take().values()
    assert [login.user for login, _ in kept.logins] == ["ann", "bob"]
    kept.answer("no")
    assert said == ["no", "no"]


def test_the_same_login_is_kept_once():
    overflow, said = Overflow(10), []
    only = pending("ann", answer=said.append)
    assert overflow.add(only)
    assert overflow.add(only)
    [kept] = overflow.take().values()
    kept.answer(None)
    assert said == [None]
    assert len(overflow) == 0


def test_those_whose_clients_wait_are_taken_and_the_others_stay():
    overflow = Overflow(10)
    waits, told = pending("ann", answer=lambda _: None), pending("bob", address=OTHER)
    overflow.add(waits)
    overflow.add(told)
    assert overflow.take_unanswered() == [waits]
    assert list(overflow.take()) == [OTHER]


def test_revoked_addresses_are_dropped():
    overflow = Overflow(10)
    for address in (ADDRESS, OTHER):
        overflow.add(pending("ann", address=address))
    overflow.forget([OTHER, "192.0.2.1"])
    assert len(overflow) == 1
    overflow.forget(None)
    assert len(overflow) == 0
