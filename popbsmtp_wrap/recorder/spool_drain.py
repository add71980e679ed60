"""Out of the spool, into the table, chunk by chunk."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.errors import PopbsmtpError, SpoolError
from popbsmtp_wrap.recorder.async_database import Outcome, Seen
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.chunk_attempts import ChunkAttempts
from popbsmtp_wrap.recorder.locked_rows import LockedRows


class SpoolDrain:
    """Moves what the spool holds into the table, one chunk at a time."""

    def __init__(
        self,
        spool: AsyncSpool,
        write: Callable[[list[Seen]], Awaitable[Outcome]],
        failed: Callable[[str], None],
        locked: LockedRows,
        log: EventLog,
    ) -> None:
        """*failed* is told why the database takes nothing."""
        self._spool = spool
        self._write = write
        self._failed = failed
        self._locked = locked
        self._log = log
        self._may_run = False
        self._wanted = asyncio.Event()
        self._wanted_since = 0.0
        # A round takes the files that are there when it begins; it is over when all are done with.
        self._is_over = True
        # Whose logins went to the end of the spool in this round.
        self._put_back: set[str] = set()
        self._one_at_a_time = asyncio.Lock()

    def start(self) -> None:
        """Begin to drain: the database is up, and there may be something in the spool."""
        self._may_run = True
        if not self._wanted.is_set():
            self._wanted_since = time.monotonic()
            self._wanted.set()

    def stop(self) -> None:
        """Begin nothing until start(): the database is down."""
        self._may_run = False
        self._wanted.clear()

    def oldest_s(self) -> float:
        """Return for how long somebody has wanted a drain that does not begin."""
        if not self._wanted.is_set() or self._one_at_a_time.locked():
            return 0.0
        return time.monotonic() - self._wanted_since

    async def run(self) -> None:
        """Write what the spool holds, round by round; a job."""
        while True:
            await self._next_round()
            self._wanted.clear()
            if not self._may_run:
                continue  # the database went down in the meantime; start() wakes this again
            self._put_back.clear()
            if not self._is_over:
                # The rest of a round that failed; there may be other files since.
                self._wanted.set()
            try:
                while self._may_run and await self.some():
                    pass
            except PopbsmtpError as error:
                self._failed(str(error))

    async def _next_round(self) -> None:
        """Return when there may be more to write, or when a locked row is to be tried again."""
        retry_s = self._locked.next_s(self._put_back) if self._may_run else None
        try:
            async with asyncio.timeout(retry_s):
                await self._wanted.wait()
        except TimeoutError:
            return

    async def some(self) -> bool:
        """Write the next chunk of the round; return False when it was the last one.

        Only what the database refuses for good is dropped: logins whose rows are locked go to the
        end of the spool before the chunk is forgotten. Raise as *write* does; the chunk stays then,
        or is at the end of the spool if the error is in_doubt: others may be taken.
        """
        async with self._one_at_a_time:
            chunk = await self._spool.next_chunk()
            self._is_over = chunk is None
            if chunk is None:
                if not self._put_back:
                    self._locked.forget()  # nothing waits for a row
                return False
            attempts = ChunkAttempts(chunk, time.monotonic(), self._locked.holds)
            trouble: PopbsmtpError | None = None
            while batch := attempts.next_batch():
                try:
                    attempts.learn(await self._write(batch))
                except PopbsmtpError as error:
                    if not error.in_doubt:
                        raise
                    trouble = error
                    attempts.put_off(batch)
            self._put_back.update(login.address for login, _ in attempts.put_back)
            try:
                await self._spool.put_back(attempts.put_back)
                await self._spool.committed(chunk, attempts.written)
            except SpoolError as error:
                # The chunk is in the table and will be written again, which does no harm.
                self._log.event("spool_trouble", error=error)
                if trouble is None:
                    return False
            if trouble is not None:
                raise trouble
            return True

    async def remove(self, addresses: Collection[str] | None) -> None:
        """Take the logins of *addresses*, None for all, out of the spool. Raise SpoolError."""
        async with self._one_at_a_time:
            await self._spool.remove(addresses)
