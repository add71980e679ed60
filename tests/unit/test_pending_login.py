"""Logins of one address that wait together."""

import asyncio
import time

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.database_checks import pending_again
from popbsmtp_wrap.recorder.pending_login import PendingLogin
from popbsmtp_wrap.recorder.recent_addresses import Hit


def login(user, age_s):
    return Login("198.51.100.7", user, "imap", age_s)


@pytest.mark.parametrize(
    ("age_s", "since", "user"),
    [(0, 1001.0, "bob"), (60, 1001.0, "alice"), (1, 1001.0, "bob"), (2, 1001.0, "alice")],
)
def test_of_two_logins_the_later_one_counts(age_s, since, user):
    heard = []
    entry = PendingLogin(login("alice", 0), 1000.0, heard.append)
    entry.join(login("bob", age_s), since, heard.append)
    assert entry.login.user == user
    assert entry.moment == (1000.0 if user == "alice" else since - age_s)
    entry.answer(None)
    assert heard == [None, None]


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_whoever_waits_for_a_merged_login_hears_with_the_others(user):
    heard = []

    async def main():
        kept = PendingLogin(login("alice", 0), 1000.0, heard.append)
        merged = PendingLogin(login(user, 0), 1001.0, heard.append)
        waiting = asyncio.create_task(merged.settled())
        await asyncio.sleep(0)
        kept.merge(merged)
        assert not merged.is_open
        async with asyncio.timeout(20):
            await merged.settled()
            await asyncio.sleep(0)
            assert not waiting.done()
            kept.answer(None)
            await waiting

    asyncio.run(main())
    assert heard == [None, None]


def test_a_remembered_login_is_written_again_as_older_than_it_is_but_never_younger():
    # A revocation that came within the second after it has to win.
    seen = time.monotonic() - 0.3
    pending = pending_again(Hit(login("alice", 0), seen))
    assert (pending.login.age_s, pending.login.user, pending.askers) == (1, "alice", 0)
    assert pending.moment < seen
    assert pending_again(Hit(login("alice", 5), seen)).login.age_s == 6
