"""Out of the spool, into the table, chunk by chunk."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.errors import PopbsmtpError, SpoolError
from popbsmtp_wrap.recorder.async_database import Outcome, Seen
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.latest_first import LatestFirst
from popbsmtp_wrap.recorder.locked_rows import LockedRows

# After the moment from which a locked row may be tried again.
_LOCKED_S: Final = 0.05


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
        """*write* commits logins, *failed* hears why it could not."""
        # Set while there may be something to drain and the database is up.
        self.ready = asyncio.Event()
        self.locked = locked
        self._spool = spool
        self._write = write
        self._failed = failed
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Write what the spool holds while the database is up; a job."""
        while True:
            await self.ready.wait()
            try:
                if await self.some():
                    continue
            except PopbsmtpError as error:
                self._failed(str(error))
                continue
            self.ready.clear()
            if (pause_s := self.locked.next_s()) is not None:
                # Tried again while everything else is written at once.
                asyncio.get_running_loop().call_later(pause_s + _LOCKED_S, self.ready.set)

    async def some(self) -> bool:
        """Write the oldest chunk; return False when there is nothing that can be written now.

        Only what the database refuses for good is dropped: logins whose rows are locked go to the
        end of the spool before the chunk is forgotten. Raise as *write* does; the chunk stays then.
        """
        async with self._one_at_a_time:
            chunk = await self._spool.next_chunk()
            if chunk is None:
                return False
            now = time.monotonic()
            refused = 0
            free: list[Seen] = []
            locked: list[Seen] = []
            for login in chunk.logins:
                held = self.locked.holds(login.address)
                (locked if held else free).append(Seen(login, now))
            attempts = LatestFirst(free)
            while batch := attempts.next_batch():
                outcome = await self._write(batch)
                attempts.refused(seen.login.address for seen, _ in outcome.refused)
                refused += len(outcome.refused)
                locked += [seen for seen, _ in outcome.locked]
            try:
                if locked:
                    await self._spool.put_back(locked)
                await self._spool.committed(chunk, len(chunk.logins) - refused - len(locked))
            except SpoolError as error:
                # The chunk is in the table and will be written again, which does no harm.
                self._log.event("spool_trouble", error=error)
                return False
            return len(locked) < max(1, chunk.records)

    async def remove(self, addresses: Collection[str] | None) -> None:
        """Take the logins of *addresses*, None for all, out of the spool. Raise SpoolError."""
        async with self._one_at_a_time:
            await self._spool.remove(addresses)
