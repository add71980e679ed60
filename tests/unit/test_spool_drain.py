"""The drain of the spool around rows that somebody holds."""

import asyncio
import contextlib
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.locked_rows import LockedRows
from popbsmtp_wrap.recorder.spool_drain import SpoolDrain
from popbsmtp_wrap.store.batch import LARGEST_BATCH, NotWritten, Outcome
from tests.harness.directories import public_directory

PATIENCE_S = 30.0
HELD = "192.0.2.1"


class CountedSpool(AsyncSpool):
    """Counts how often it is asked for a chunk."""

    asked = 0

    async def next_chunk(self):
        self.asked += 1
        return await super().next_chunk()


class Place:
    """A spool and its drain into a table in which some rows are locked."""

    def __init__(self, grace_s):
        self.locked_addresses = set()
        # The age with which each address was tried last.
        self.tried = {}
        self.table = {}
        self.failures = []
        settings = Settings(grace=grace_s)
        self.path = str(public_directory())
        self.is_down = False
        # Refused together with everything that is written with them.
        self.doubtful_addresses = set()
        recorder = replace(settings.recorder, spool=self.path)
        settings = replace(settings, recorder=recorder)
        self.spool = CountedSpool(lambda: settings, EventLog("stderr"), Counts())
        self.locked = LockedRows(time.monotonic)
        self.drain = SpoolDrain(
            self.spool, self._write, self.failures.append, self.locked, EventLog("stderr")
        )

    async def _write(self, batch):
        if self.is_down:
            raise StoreUnavailableError("down")
        if self.doubtful_addresses & {seen.login.address for seen in batch}:
            error = StoreUnavailableError("in doubt")
            error.in_doubt = True
            for seen in batch:
                self.locked.add(seen.login.address)
            raise error
        locked = []
        for seen in batch:
            self.tried[seen.login.address] = seen.login.age_s
            if seen.login.address in self.locked_addresses:
                self.locked.add(seen.login.address)
                locked.append(NotWritten(seen, "locked"))
            else:
                self.locked.discard(seen.login.address)
                self.table[seen.login.address] = seen.login
        return Outcome(locked=locked)

    async def put(self, *addresses):
        done = asyncio.Event()
        now = time.monotonic()
        logins = [(Login(address, "alice", "imap"), now) for address in addresses]
        self.spool.add(logins, lambda trouble: (self.failures.append(trouble), done.set()))
        await done.wait()
        assert self.failures.pop() is None

    async def find_locked(self):
        """Return when the drain has found that the row of HELD is locked."""
        self.locked_addresses = {HELD}
        await self.put(HELD)
        self.drain.start()
        await until(lambda: HELD in self.tried)


@pytest.fixture
def place():
    """Return what runs a test with a Place in an event loop."""

    def run(test, grace_s=1800):
        async def main():
            place = Place(grace_s)
            jobs = [
                asyncio.create_task(job()) for job in (place.drain.run, place.spool.append_queued)
            ]
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await test(place)
            finally:
                for job in jobs:
                    job.cancel()
                await asyncio.gather(*jobs, return_exceptions=True)
                await place.spool.close()
            assert place.failures == []

        # What never lets the event loop go on would not let its own time-outs come either.
        before = signal.signal(signal.SIGALRM, _hangs)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S)
        try:
            asyncio.run(main())
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    return run


def _hangs(*_):
    raise AssertionError("a job keeps the event loop")


@contextlib.contextmanager
def immutable_segment(place):
    """Let nobody remove the segment of a place."""
    [segment] = Path(place.path).glob("*.spool")
    subprocess.run(["chattr", "+i", segment], check=True)
    try:
        yield segment
    finally:
        subprocess.run(["chattr", "-i", segment], check=True)


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is asked has no events
        await asyncio.sleep(0.01)


def test_a_login_does_not_grow_older_by_being_put_back(place):
    async def test(place):
        place.locked_addresses = {HELD}
        await place.put(HELD)
        began = time.monotonic()
        for _ in range(8):
            place.locked.forget()
            asked = place.spool.asked
            place.drain.start()
            await until(lambda asked=asked: place.spool.asked >= asked + 2)
        place.locked_addresses = set()
        place.locked.forget()
        place.drain.start()
        await until(lambda: HELD in place.table)
        assert place.table[HELD].age_s <= 1 + int(time.monotonic() - began)

    place(test)


def test_a_locked_row_is_tried_again_by_itself_and_seldom(place):
    async def test(place):
        await place.find_locked()
        asked = place.spool.asked
        await asyncio.sleep(2)
        # After 0.2 s, 0.4 s, 0.8 s and so on, twice each time.
        assert place.spool.asked - asked < 20
        place.locked_addresses = set()
        await until(lambda: HELD in place.table and place.spool.waiting == 0)

    place(test)


def test_nobody_waits_for_a_locked_row_whose_login_has_expired(place):
    async def test(place):
        place.locked_addresses = {HELD}
        await place.put(HELD)
        place.drain.start()
        await until(lambda: place.spool.waiting == 0)
        await asyncio.sleep(0.5)
        asked = place.spool.asked
        await asyncio.sleep(1)
        assert place.spool.asked == asked

    place(test, grace_s=1)


def test_an_outage_while_a_locked_row_waits_leaves_the_event_loop_to_others(place):
    async def test(place):
        await place.find_locked()
        # It waits for the row; meanwhile the database goes down, and the probe takes a chunk.
        place.drain.stop()
        await place.drain.some()
        await asyncio.sleep(1)
        place.locked_addresses = set()
        place.drain.start()
        await until(lambda: HELD in place.table)

    place(test)


def test_logins_behind_many_locked_rows_are_written_in_the_same_round(place):
    async def test(place):
        held = [f"10.0.{n >> 8}.{n & 255}" for n in range(LARGEST_BATCH + 100)]
        free = [f"10.1.0.{n}" for n in range(10)]
        place.locked_addresses = set(held)
        await place.put(*held)
        await place.put(*free)
        place.drain.start()
        await until(lambda: set(place.table) == set(free))
        await until(lambda: place.spool.waiting == len(held))
        place.locked_addresses = set()
        await until(lambda: place.spool.waiting == 0)
        assert set(place.table) == {*held, *free}

    place(test)


def test_a_login_that_comes_while_a_locked_one_waits_is_written_at_once(place):
    async def test(place):
        await place.find_locked()
        for number in range(5):
            address = f"198.51.100.{number}"
            await place.put(address)
            place.drain.start()
            await until(lambda address=address: address in place.table)
        assert HELD not in place.table

    place(test)


def test_nothing_is_written_after_stop_until_start(place):
    async def test(place):
        await place.find_locked()
        place.drain.stop()
        place.locked_addresses = set()
        await asyncio.sleep(1)
        assert place.table == {}
        place.drain.start()
        await until(lambda: HELD in place.table)

    place(test)


def test_a_file_that_cannot_be_removed_is_written_once_for_each_start(place):
    async def test(place):
        await place.put("198.51.100.1")
        with immutable_segment(place) as segment:
            place.drain.start()
            await until(lambda: "198.51.100.1" in place.table)
            asked = place.spool.asked
            await asyncio.sleep(0.5)
            assert place.spool.asked - asked < 3
        place.drain.start()
        await until(lambda: not segment.exists())

    place(test)


def test_logins_that_are_in_doubt_go_behind_the_others(place):
    async def test(place):
        await place.put(HELD)
        place.doubtful_addresses = {HELD}
        place.drain.start()
        await until(lambda: place.failures)
        assert place.failures.pop() == "in doubt"
        place.drain.stop()
        await place.put("198.51.100.2")
        # As the probe does it: the rest of the round, then the next ones.
        for _ in range(20):
            with contextlib.suppress(StoreUnavailableError):
                await place.drain.some()
            if place.table:
                break
        assert set(place.table) == {"198.51.100.2"}
        place.doubtful_addresses = set()
        place.locked.forget()
        place.drain.start()
        await until(lambda: HELD in place.table and place.spool.waiting == 0)

    place(test)


def test_files_from_after_a_failure_are_written_as_soon_as_the_database_is_back(place):
    async def test(place):
        await place.put("198.51.100.1")
        place.is_down = True
        place.drain.start()
        await until(lambda: place.failures)
        place.drain.stop()
        assert place.failures.pop() == "down"
        await place.put("198.51.100.2")
        place.is_down = False
        place.drain.start()
        await until(lambda: set(place.table) == {"198.51.100.1", "198.51.100.2"})

    place(test)
