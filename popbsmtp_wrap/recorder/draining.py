"""Out of the spool, into the table, piece by piece."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.recorder.database import Seen
from popbsmtp_wrap.recorder.log import Log
from popbsmtp_wrap.recorder.spooling import Spooling


class Draining:
    """Moves what the spool holds; one piece at a time, whoever asks."""

    def __init__(
        self, spooling: Spooling, commit: Callable[[list[Seen]], Awaitable[None]], log: Log
    ) -> None:
        self._spooling = spooling
        self._commit = commit
        self._log = log
        self._one_at_a_time = asyncio.Lock()

    async def some(self) -> bool:
        """Write the oldest piece; return False when there is none that can be read.

        Raise as *commit* does; the same piece comes again then.
        """
        async with self._one_at_a_time:
            chunk = await self._spooling.next_chunk()
            if chunk is None:
                return False
            now = time.monotonic()
            await self._commit([Seen(login, now) for login in chunk.logins])
            try:
                await self._spooling.committed(chunk)
            except SpoolError as error:
                # It is in the table, and may come again: that is no harm.
                self._log.event("spool_trouble", error=error)
                return False
            return True

    async def remove(self, addresses: Collection[str] | None) -> None:
        """Take the logins of *addresses*, None for all, out of the spool. Raise SpoolError."""
        async with self._one_at_a_time:
            await self._spooling.remove(addresses)
