"""The spool as the event loop sees it: a thread of its own, one fsync for all that wait for it."""

import asyncio
import os
import time
from collections.abc import Collection
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import SpoolBusyError, SpoolError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.counts import Counts
from popbsmtp_wrap.recorder.entry import Answer
from popbsmtp_wrap.recorder.log import Log
from popbsmtp_wrap.recorder.worker import Worker
from popbsmtp_wrap.spool.directory import Depth, Spool, depth, lock
from popbsmtp_wrap.spool.draining import Chunk, Drain
from popbsmtp_wrap.spool.remove import remove
from popbsmtp_wrap.spool.stamp import Stamp
from popbsmtp_wrap.spool.writing import Appender
from popbsmtp_wrap.store.batch import LARGEST_BATCH

# A directory that was not usable is tried again after this.
_REOPEN_S: Final = 1.0
# What goes into one write and fsync: about 200 bytes each.
_LARGEST_GROUP: Final = 1000


class Spooling:
    """Logins on their way into the spool and out of it."""

    def __init__(self, settings: Settings, log: Log, counts: Counts) -> None:
        """Raise SpoolBusyError when another process uses the spool.

        What else is wrong with the directory is logged, and tried again later.
        """
        self.trouble: str | None = None
        self.waiting = 0
        self.bytes = 0
        self._settings = settings
        self._log = log
        self._counts = counts
        self._open: tuple[Spool, Appender, Drain] | None = None
        self._tried = 0.0
        self._queue: list[tuple[Login, float, Answer]] = []
        self._busy = False
        self._thread = Worker("spool", SpoolError)
        self._work = asyncio.Event()
        try:
            self._use()
        except SpoolBusyError:
            raise
        except SpoolError as error:
            self._fails(error)
        self._task = asyncio.create_task(self._append())

    def adopt(self, settings: Settings) -> None:
        """Go on with other settings; the directory stays the same."""
        self._settings = settings

    def add(self, login: Login, since: float, answer: Answer) -> None:
        """Spool *login*, seen at *since*; *answer* hears None when it is on disk, else why not."""
        self._queue.append((login, since, answer))
        self._work.set()

    async def settled(self) -> None:
        """Wait until nothing waits for the disk."""
        while self._queue or self._busy:  # noqa: ASYNC110 - rare
            await asyncio.sleep(0.005)

    async def next_chunk(self) -> Chunk | None:
        """Return what the database should get next, None when there is nothing.

        The same again until committed() is called.
        """
        try:
            return await self._thread.run(self._next_chunk)
        except SpoolError as error:
            self._fails(error)
            return None

    async def committed(self, chunk: Chunk) -> None:
        """Forget *chunk*, which is in the database."""
        errors = await self._thread.run(self._commit)
        drained = self._counts.drained
        drained["committed"] += len(chunk.logins)
        drained["expired"] += chunk.expired
        drained["untrusted"] += chunk.untrusted
        drained["corrupt"] += chunk.bad
        self.waiting = max(0, self.waiting - chunk.records)
        if chunk.bad or chunk.expired or chunk.untrusted:
            self._log.event(
                "spool_dropped",
                corrupt=chunk.bad,
                expired=chunk.expired,
                untrusted=chunk.untrusted,
                directory=self._settings.recorder.spool,
            )
        for error in [*chunk.errors, *errors]:
            self._log.event("spool_trouble", error=error)

    async def remove(self, addresses: Collection[str] | None) -> int:
        """Take the logins of *addresses*, None for all, out of the spool; return how many.

        Raise SpoolError when that cannot be.
        """

        def take() -> int:
            if not os.path.isdir(self._settings.recorder.spool):
                return 0
            spool, appender, _ = self._use()
            appender.close_segment()
            return remove(spool, addresses)

        return await self._thread.run(take)

    async def measure(self) -> Depth | None:
        """Return what is in the directory now, None when it cannot be read."""
        try:
            found = await self._thread.run(lambda: depth(self._settings.recorder.spool))
        except SpoolError:
            return None
        self.waiting, self.bytes = found.records, found.bytes
        return found

    async def close(self) -> None:
        """Let others have the spool."""
        self._task.cancel()

        def leave() -> None:
            if self._open is not None:
                spool, appender, _ = self._open
                appender.close_segment()
                spool.close()

        await self._thread.run(leave)
        self._thread.end()

    async def _append(self) -> None:
        """Write what waits, group by group."""
        while True:
            await self._work.wait()
            group, self._queue = self._queue[:_LARGEST_GROUP], self._queue[_LARGEST_GROUP:]
            if not group:
                self._work.clear()
                continue
            self._busy = True
            trouble = None
            try:
                await self._thread.run(lambda group=group: self._append_group(group))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            except SpoolError as error:
                trouble = str(error)
                self._fails(error)
            else:
                self.trouble = None
                self.waiting += len(group)
            self._busy = False
            for _, _, answer in group:
                answer(trouble)

    def _append_group(self, group: list[tuple[Login, float, Answer]]) -> None:
        now, monotonic = Stamp.now(), time.monotonic()
        records = []
        for login, since, _ in group:
            waited_ns = int((monotonic - since) * 1e9)
            stamp = now._replace(boot_ns=now.boot_ns - waited_ns, wall_ns=now.wall_ns - waited_ns)
            records.append((login, stamp))
        self._use()[1].append(records)

    def _next_chunk(self) -> Chunk | None:
        _, appender, drain = self._use()
        appender.close_segment()
        return drain.chunk()

    def _commit(self) -> list[str]:
        return self._use()[2].commit()

    def _use(self) -> tuple[Spool, Appender, Drain]:
        """Return the open spool. Raise SpoolError where there is none, at most once a second."""
        if self._open is None:
            now = time.monotonic()
            if self.trouble and now - self._tried < _REOPEN_S:
                raise SpoolError(self.trouble)
            self._tried = now
            recorder = self._settings.recorder
            spool = lock(recorder.spool, recorder.spool_size)
            drain = Drain(spool, self._settings.grace, LARGEST_BATCH)
            self._open = spool, Appender(spool), drain
        return self._open

    def _fails(self, error: SpoolError) -> None:
        self.trouble = str(error)
        self._log.event("spool_failed", error=error)
