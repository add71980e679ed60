"""What the recorder asks the database beside the logins: whether it, and its rows, are there."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Final

from popbsmtp_wrap.daemon.backoff import Backoff
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.recorder.pending_login import PendingLogin
from popbsmtp_wrap.recorder.recent_addresses import Hit

# The first probes of a database that is down come as fast, and its spool may appear meanwhile.
_FIRST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 5.0
# After so many attempts what is left in the spool is not ours to remove, or locked for long.
_MOST_ALIKE: Final = 5

if TYPE_CHECKING:
    from popbsmtp_wrap.recorder.async_spool import AsyncSpool
    from popbsmtp_wrap.recorder.commit_queue import CommitQueue


class DatabaseChecks:
    """Finds out what happens to the database, or to its rows, while no login tells."""

    def __init__(self, queue: "CommitQueue") -> None:
        # Set when retry_leftovers() has given up until there is more.
        self.makes_no_progress = False
        self._queue = queue

    async def look_around(self, pause_s: float = 5.0) -> None:
        """Find out whether the database is up, and look for what others have spooled; a job."""
        queue = self._queue
        try:
            await queue.writer.database.ping()
        except PopbsmtpError as error:
            queue.outages.begin(str(error))
        while True:
            if queue.outages.breaker.up:
                queue.outages.retry_kept()
                queue.drain.start()
            await asyncio.sleep(pause_s)
            await self.look()

    async def retry_leftovers(
        self, spool: "AsyncSpool", prepare: Callable[[], Awaitable[None]]
    ) -> None:
        """Retry the logins that the database did not take until none is left; a job.

        It sleeps while nothing is left. *prepare* is awaited before each attempt. Other processes
        may write to *spool* and drain it, too.
        """
        queue = self._queue
        while True:
            await queue.fallback.was_used.wait()
            queue.fallback.was_used.clear()
            self.makes_no_progress = False
            backoff, alike = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S), 0
            while queue.fallback.has_any and alike < _MOST_ALIKE:
                await asyncio.sleep(backoff.next_s())
                await prepare()
                queue.outages.retry_kept()
                if queue.outages.breaker.up:
                    before = spool.waiting
                    queue.drain.start()
                    await spool.measure()
                    is_alike = spool.waiting == before and not queue.fallback.kept
                    alike = alike + 1 if is_alike else 0
            self.makes_no_progress = queue.fallback.has_any

    async def look(self) -> None:
        """Find out whether the database that is up is still the one that others read."""
        queue = self._queue
        if not queue.outages.breaker.up:
            return
        try:
            await queue.writer.database.check_in_place()
        except PopbsmtpError as error:
            queue.outages.begin(str(error))
        else:
            queue.outages.forget_if_replaced()

    async def verify_remembered(self, pause_s: float = 1.0) -> None:
        """Write the remembered logins whose rows are gone; a job.

        It sleeps while no login has been answered from memory.
        """
        while True:
            await self._queue.recent.has_hits.wait()
            await self._queue.outages.breaker.until_up()
            await asyncio.sleep(pause_s)
            if self._queue.outages.breaker.up:
                await self.verify()

    async def verify(self) -> None:
        """Write some of the remembered logins whose rows are gone.

        A row goes with a fail-over that lost its commit, with a TRUNCATE, or with a revocation on
        another host, which wins in the table: the login is written with its true age.
        """
        queue = self._queue
        if not (hits := queue.recent.take_hits()):
            return
        try:
            gone = await queue.writer.database.missing(hits)
        except BaseException as error:
            for address, hit in hits.items():
                queue.recent.put_back(address, hit)
            if not isinstance(error, PopbsmtpError):
                raise
            queue.outages.begin(str(error))
            return
        for address in gone:
            queue.recent.forget([address])
            queue.queue(pending_again(hits[address]))


def pending_again(hit: Hit) -> PendingLogin:
    """Return a remembered login as one to write, for which nobody waits.

    Its age is rounded up: a revocation since is later, even within a second.
    """
    now = time.monotonic()
    age_s = ceil(now - hit.since + hit.login.age_s)
    return PendingLogin(replace(hit.login, age_s=age_s), now, answer=None)
