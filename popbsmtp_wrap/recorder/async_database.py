"""The database as the event loop sees it: one connection that stays, and a thread to wait in."""

import math
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, TypeVar

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import PopbsmtpError, StoreUnavailableError
from popbsmtp_wrap.store.batch import BatchWriter, NotWritten, Outcome, Seen, largest_size
from popbsmtp_wrap.store.engine import open_store

__all__ = ["AsyncDatabase", "NotWritten", "Outcome", "Seen"]

Result = TypeVar("Result")

# A commit is most often done before a thread would have begun with it: for a few logins the event
# loop does it itself. It never waits for longer, and after a commit that took a part of this it
# leaves them to the thread for a while.
_AT_ONCE_S: Final = 0.05
_SLOW_S: Final = 0.02
_SLOW_FOR_S: Final = 5.0
# The statement for more takes time that others could use meanwhile.
_FEW: Final = 4


class AsyncDatabase:
    """Writes batches in their order. Every wait is bounded by database.connect_timeout."""

    def __init__(
        self, settings: Settings, log: EventLog, *, reopens: bool = False, closes: bool = False
    ) -> None:
        """Nothing is connected yet. Raise ConfigError for what cannot work.

        A database that *reopens* is opened by the first call, in its thread, and again after each
        failure: it reads its password file anew, and what cannot work is the failure of a call.
        One that *closes* as well is open during a call alone: the last connection to an SQLite file
        locks it to close it, and should have done so when the client hears OK.
        """
        self._database = settings.database
        self._grace_s = settings.grace
        self._thread = WorkerThread("database", StoreUnavailableError, log)
        self._slow_until = math.inf
        self._can_be_replaced = False
        self._replacements = 0
        self._reopens = reopens
        self._closes = closes
        self._writer: BatchWriter | None = None if reopens else self._open()

    def batch_size(self, waiting: int) -> int:
        """Return how many of *waiting* addresses go into one statement and commit."""
        return largest_size(waiting)

    def write_at_once(self, batch: Sequence[Seen]) -> bool:
        """Commit *batch* without a wait to speak of; False when write() has to do it."""
        began = time.monotonic()
        if not 0 < len(batch) <= _FEW or self._thread.is_busy or began < self._slow_until:
            return False
        done = self._writer is not None and self._writer.write_at_once(batch, _AT_ONCE_S)
        ended = time.monotonic()
        if not done or ended - began > _SLOW_S:
            self._slow_until = ended + _SLOW_FOR_S
        return done

    async def write(self, batch: Sequence[Seen]) -> Outcome:
        """Commit *batch* and return what is not committed. Raise as BatchWriter.write() does."""
        return await self._call(lambda writer: writer.write(batch)) if batch else Outcome()

    async def missing(self, addresses: Collection[str]) -> set[str]:
        """Return those of canonical *addresses* that may not relay. Raise as write() does."""
        return await self._call(lambda writer: writer.missing(addresses, self._grace_s))

    @property
    def file(self) -> str | None:
        """Device and inode of the open database, None for a server or when none is open."""
        return self._writer.file if self._writer else None

    def take_replaced(self) -> bool:
        """Return True if the database was found to be replaced since the last call."""
        if self._writer is None:
            return False
        before, self._replacements = self._replacements, self._writer.replacements
        return self._replacements != before

    async def check_in_place(self) -> None:
        """Raise as ping() does where the database may have been replaced by another."""
        if self._can_be_replaced:
            await self.ping()

    async def ping(self) -> None:
        """Raise as write() does unless the database answers."""
        await self._call(lambda writer: writer.ping())

    def close_later(self) -> None:
        """Close the connection after the calls so far; a call that hangs holds nobody up."""
        self._thread.end(self._close)

    async def close(self) -> None:
        """Close the connection after the calls so far."""
        await self._thread.run(self._close)
        self._thread.end()

    def _open(self) -> BatchWriter:
        store = open_store(self._database, stay_connected=True, autocommit=True)
        # A disk or a file server that hangs must not hang the event loop.
        bounded = store.dialect.has_bounded_waits(self._database)
        self._slow_until = 0.0 if bounded else math.inf
        self._can_be_replaced = store.dialect.can_be_replaced
        return BatchWriter(store)

    async def _call(self, question: Callable[[BatchWriter], Result]) -> Result:
        def ask() -> Result:
            writer = self._writer = self._writer or self._open()
            try:
                found = question(writer)
            except PopbsmtpError:
                if self._reopens:
                    self._close()
                raise
            if self._closes:
                self._close()
            return found

        return await self._thread.run(ask)

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        self._replacements = 0
        if writer is not None:
            writer.close()
