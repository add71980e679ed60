"""The spool as the event loop sees it: a thread of its own, one fsync for all that wait for it."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import SpoolBusyError, SpoolError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.server.handlers import Answer
from popbsmtp_wrap.spool.append import Appender, put_all
from popbsmtp_wrap.spool.directory import Depth, Spool, depth, hold, lock
from popbsmtp_wrap.spool.reader import Chunk, SpoolReader
from popbsmtp_wrap.spool.remove import remove
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.store.batch import LARGEST_BATCH

# A directory that was not usable is tried again after this.
_REOPEN_S: Final = 1.0
# popbsmtp flush has the lock while it reads or forgets a chunk.
_FLUSH_S: Final = 1.0
# What goes into one write and fsync: about 200 bytes each.
_LARGEST_GROUP: Final = 1000


class _Open(NamedTuple):
    """The spool while we have its lock."""

    spool: Spool
    appender: Appender
    drain: SpoolReader


class AsyncSpool:
    """Logins on their way into the spool and out of it.

    Another process may have the spool's lock for a while (popbsmtp flush): logins go into files of
    their own then, and draining waits. A spool that *is_shared* with other recorders is locked only
    while a chunk is read or forgotten, and every group of logins is a file of its own.
    """

    def __init__(
        self,
        settings: Callable[[], Settings],
        log: EventLog,
        counts: Counts,
        *,
        is_shared: bool = False,
    ) -> None:
        """Raise SpoolBusyError when another recorder uses the spool, unless it *is_shared*.

        What else is wrong with the directory is logged, and tried again later.
        """
        self.trouble: str | None = None
        self.waiting = 0
        self.bytes = 0
        self._settings = settings
        # Another directory counts from the next start on.
        self._path = settings().recorder.spool
        self._log = log
        self._counts = counts
        self._is_shared = is_shared
        self._open: _Open | None = None
        self._held = -1
        self._tried = 0.0
        self._queue: list[tuple[list[tuple[Login, float]], Answer]] = []
        self._queued_since = 0.0
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = WorkerThread("spool", SpoolError, log)
        self._work = asyncio.Event()
        if is_shared:
            return
        try:
            self._held = hold(self._path)
        except SpoolBusyError:
            raise
        except SpoolError as error:
            self._fails(error)

    def add(self, logins: list[tuple[Login, float]], answer: Answer) -> None:
        """Spool *logins*, each *login.age_s* old at the moment beside it; call *answer* once.

        With None when they are on disk, otherwise with the reason why they are not.
        """
        if not self._queue:
            self._queued_since = time.monotonic()
        self._queue.append((logins, answer))
        self._idle.clear()
        self._work.set()

    def oldest_s(self) -> float:
        """Return for how long logins have waited that the thread was not given yet."""
        return time.monotonic() - self._queued_since if self._queue and not self._busy else 0.0

    async def put_back(self, stored: Sequence[tuple[Login, Stamp]]) -> None:
        """Return when logins that a chunk has *stored* are at the end of the spool, too.

        For a moment they may take it beyond its size: the chunk goes next. Raise SpoolError.
        """
        if stored:
            await self._thread.run(lambda: self._append(stored, spare=True))
            self.waiting += len(stored)

    async def settled(self) -> None:
        """Return when no login waits for the disk."""
        await self._idle.wait()

    async def next_chunk(self) -> Chunk | None:
        """Return what the database should get next, None when there is nothing.

        Returns the same chunk, with the ages of that moment, until committed() is called.
        """
        try:
            return await self._thread.run(self._next_chunk)
        except SpoolBusyError:
            return None  # the process that has the lock drains it
        except SpoolError as error:
            self._fails(error)
            return None

    async def committed(self, chunk: Chunk, written: int) -> None:
        """Forget *chunk*, of which *written* logins are in the database. Raise SpoolError."""
        errors = await self._thread.run(self._commit)
        drained = self._counts.drained
        drained["committed"] += written
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
                directory=self._path,
            )
        for error in [*chunk.errors, *errors]:
            self._log.event("spool_trouble", error=error)

    async def remove(self, addresses: Collection[str] | None) -> int:
        """Take the logins of *addresses*, None for all, out of the spool; return how many.

        Raise SpoolError when that cannot be.
        """

        def take() -> int:
            if not os.path.isdir(self._path):
                return 0
            try:
                with self._using(_FLUSH_S) as (spool, appender, _):
                    appender.close_segment()
                    return remove(spool, addresses)
            except SpoolBusyError:
                if self._is_shared:
                    return 0  # a resident recorder keeps the lock, and is asked as well
                raise

        return await self._thread.run(take)

    async def measure(self) -> Depth | None:
        """Return what is in the directory now, None when it cannot be read."""
        try:
            found = await self._thread.run(lambda: depth(self._path))
        except SpoolError:
            return None
        self.waiting, self.bytes = found.records, found.bytes
        return found

    async def close(self) -> None:
        """Let others have the spool."""
        await self._thread.run(self._leave)
        self._thread.end()

    async def append_queued(self) -> None:
        """Write what waits for the disk, group by group; a job."""
        while True:
            await self._work.wait()
            group, self._queue = self._queue[:_LARGEST_GROUP], self._queue[_LARGEST_GROUP:]
            if not group:
                self._work.clear()
                self._idle.set()
                continue
            trouble = None
            logins = [seen for entry, _ in group for seen in entry]
            self._busy = True
            try:
                await self._thread.run(partial(self._append_group, logins))
            except SpoolError as error:
                trouble = str(error)
                self._fails(error)
            else:
                self.trouble = None
                self.waiting += len(logins)
            finally:
                self._busy = False
                self._queued_since = time.monotonic()
            for _, answer in group:
                answer(trouble)

    def _append_group(self, group: Sequence[tuple[Login, float]]) -> None:
        now, monotonic = Stamp.now(), time.monotonic()
        records = []
        for login, since in group:
            waited_ns = int((monotonic - since) * 1e9)
            stamp = now._replace(boot_ns=now.boot_ns - waited_ns, wall_ns=now.wall_ns - waited_ns)
            records.append((login, stamp))
        self._append(records)

    def _append(self, records: Sequence[tuple[Login, Stamp]], *, spare: bool = False) -> None:
        try:
            appender = None if self._is_shared else self._use().appender
        except SpoolBusyError:
            appender = None
        if appender is None:
            put_all(self._path, self._settings().recorder.spool_size, records)
        else:
            appender.append(records, spare=spare)

    def _next_chunk(self) -> Chunk | None:
        with self._using() as (_, appender, drain):
            appender.close_segment()
            return drain.chunk()

    def _commit(self) -> list[str]:
        with self._using(_FLUSH_S) as (_, _, drain):
            return drain.commit()

    @contextlib.contextmanager
    def _using(self, patience_s: float = 0.0) -> Iterator[_Open]:
        """Yield the open spool; wait up to *patience_s* for its lock. Raise SpoolError."""
        found = self._use_soon(patience_s)
        try:
            yield found
        finally:
            if self._is_shared:
                found.spool.unlock()

    def _use(self) -> _Open:
        """Return the open spool, with the settings in force.

        Raise SpoolBusyError while another process has its lock, SpoolError when it cannot be used;
        that is tried at most once a second.
        """
        if self._open is not None and not self._open.spool.is_current:
            self._leave()
        if self._open is None:
            now = time.monotonic()
            if self.trouble and now - self._tried < _REOPEN_S:
                raise SpoolError(self.trouble)
            self._tried = now
            self._open = self._lock()
        elif self._is_shared and not self._open.spool.relock():
            raise SpoolBusyError(f"another process drains the spool {self._path}")
        settings = self._settings()
        self._open.spool.size = settings.recorder.spool_size
        self._open.drain.grace_s = settings.grace
        return self._open

    def _use_soon(self, patience_s: float) -> _Open:
        """Return the open spool; wait up to *patience_s* for its lock. Raise SpoolError."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                return self._use()
            except SpoolBusyError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _lock(self) -> _Open:
        settings = self._settings()
        if self._held < 0 and not self._is_shared:
            self._held = hold(self._path)
        spool = lock(self._path, settings.recorder.spool_size)
        return _Open(spool, Appender(spool), SpoolReader(spool, settings.grace, LARGEST_BATCH))

    def _leave(self) -> None:
        if self._open is not None:
            self._open.appender.close_segment()
            self._open.spool.close()
            self._open = None
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def _fails(self, error: SpoolError) -> None:
        self.trouble = str(error)
        self._log.event("spool_failed", error=error)
