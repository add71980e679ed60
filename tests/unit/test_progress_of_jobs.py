"""What the watchdog asks: for how long has work waited that no job has begun?"""

import asyncio
import contextlib
from dataclasses import replace

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.circuit_breaker import CircuitBreaker
from popbsmtp_wrap.recorder.locked_rows import LockedRows
from popbsmtp_wrap.recorder.spool_drain import SpoolDrain
from tests.harness.directories import public_directory

LOG = EventLog("stderr")
WAIT_S = 0.2


class Parts:
    """A spool, its drain and a circuit breaker, each with a job that a test may start."""

    def __init__(self):
        settings = Settings()
        recorder = replace(settings.recorder, spool=str(public_directory()))
        settings = replace(settings, recorder=recorder)
        self.goes_on = asyncio.Event()
        self.spool = AsyncSpool(lambda: settings, LOG, Counts())
        locked = LockedRows(asyncio.get_running_loop().time)
        self.drain = SpoolDrain(self.spool, self._waits, lambda _: None, locked, LOG)
        self.breaker = CircuitBreaker(self._waits, lambda: None, LOG)

    async def _waits(self, *_):
        await self.goes_on.wait()
        raise StoreUnavailableError("down")


def run(test):
    async def main():
        parts = Parts()
        await test(parts)
        await parts.spool.close()

    asyncio.run(main())


@contextlib.asynccontextmanager
async def running(job):
    task = asyncio.create_task(job())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def spool_a_login(parts):
    parts.spool.add([(Login("198.51.100.7"), asyncio.get_running_loop().time())], lambda _: None)


def test_logins_that_nobody_puts_into_the_spool():
    async def test(parts):
        assert parts.spool.oldest_s() == 0
        spool_a_login(parts)
        await asyncio.sleep(WAIT_S)
        assert parts.spool.oldest_s() >= WAIT_S
        async with running(parts.spool.append_queued):
            await parts.spool.settled()
            assert parts.spool.oldest_s() == 0

    run(test)


def test_a_drain_that_nobody_begins():
    async def test(parts):
        async with running(parts.spool.append_queued):
            spool_a_login(parts)
            await parts.spool.settled()
        parts.drain.start()
        await asyncio.sleep(WAIT_S)
        assert parts.drain.oldest_s() >= WAIT_S
        async with running(parts.drain.run):
            # The database hangs: that is not the drain's fault.
            await asyncio.sleep(WAIT_S)
            parts.drain.start()
            await asyncio.sleep(WAIT_S)
            assert parts.drain.oldest_s() == 0

    run(test)


def test_an_outage_that_nobody_looks_after():
    async def test(parts):
        assert parts.breaker.oldest_s() == 0
        parts.breaker.trip("down")
        await asyncio.sleep(WAIT_S)
        assert parts.breaker.oldest_s() >= WAIT_S
        async with running(parts.breaker.probe_while_down):
            # First its pause, then a database that hangs.
            for _ in range(5):
                await asyncio.sleep(WAIT_S)
                assert parts.breaker.oldest_s() < WAIT_S
        parts.breaker.reset()
        assert parts.breaker.oldest_s() == 0

    run(test)
