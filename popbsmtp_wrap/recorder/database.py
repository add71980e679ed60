"""The database as the event loop sees it: a thread of its own, one connection that stays."""

from collections.abc import Collection, Sequence

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.recorder.worker import Worker
from popbsmtp_wrap.store.batch import BatchWriter, Seen, largest_size
from popbsmtp_wrap.store.engine import open_store

__all__ = ["Database", "Seen"]


class Database:
    """Writes batches in their order. Every wait is bounded by database.connect_timeout."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected yet. Raise ConfigError for what cannot work."""
        store = open_store(settings.database, stay_connected=True, autocommit=True)
        self._writer = BatchWriter(store)
        self._thread = Worker("database", StoreUnavailableError)

    def batch_size(self, waiting: int) -> int:
        """Return how many of *waiting* addresses go into one statement and commit."""
        return largest_size(waiting)

    async def write(self, batch: Sequence[Seen]) -> list[str]:
        """Commit *batch* and return what the database says of logins that it does not take.

        Raise StoreUnavailableError, RefusedError or SchemaError when nothing is committed.
        """
        return await self._thread.run(lambda: self._writer.write(batch)) if batch else []

    async def missing(self, addresses: Collection[str]) -> set[str]:
        """Return those of canonical *addresses* that have no row. Raise as write() does."""
        return await self._thread.run(lambda: self._writer.missing(addresses))

    async def ping(self) -> None:
        """Raise as write() does unless the database answers."""
        await self._thread.run(self._writer.ping)

    async def close(self) -> None:
        """Close the connection, after what has been asked before."""
        await self._thread.run(self._writer.close)
        self._thread.end()
