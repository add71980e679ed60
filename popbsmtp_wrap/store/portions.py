"""Changes to many rows, a small portion at a time."""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import LockedError
from popbsmtp_wrap.store.engine import Store, explained, retrying

# Rows that are left out because others hold them. Finding one takes about ten waits for a lock.
_MOST_HELD: Final = 10

Change = Callable[[Connection, Any, Any], int]


def in_portions(store: Store, chosen: Iterable[Any], change: Change) -> int:
    """Have *change* done to the rows of each condition in *chosen*, oldest first; return the sum.

    *change* gets a connection, the condition, which it asks again, and another one that names the
    rows: statement-based replication calls a LIMIT unsafe. Rows stay locked for one portion only,
    and between portions the others get their time. A row that another transaction holds is left
    out; raise StoreUnavailableError when there are many of them.
    """
    try:
        with store.dialect.expiring(store.engine) as between:
            return sum(_Portions(store, condition, change).all(between) for condition in chosen)
    except DBAPIError as error:
        raise explained(store, error) from error
    finally:
        # MariaDB logs a warning for a client that goes without a word.
        store.engine.dispose()


class _Portions:
    """The rows of one condition, without those that others hold."""

    def __init__(self, store: Store, condition: Any, change: Change) -> None:
        self._store = store
        self._condition = condition
        self._change = change
        self._held: set[str] = set()

    def all(self, between: Callable[[], object]) -> int:
        """Change portion by portion; call *between* between them; return how many rows."""
        changed = 0
        while addresses := retrying(self._store, self._next):
            started = time.monotonic()
            changed += self._around_locks(addresses)
            if len(addresses) < self._store.dialect.expire_batch:
                break
            took_s = time.monotonic() - started
            between()
            time.sleep(took_s * self._store.dialect.expire_rest)
        return changed

    def _next(self, connection: Connection) -> list[str]:
        address = self._store.address
        oldest = sa.select(address).where(self._condition).order_by(self._store.last_seen)
        if self._held:
            oldest = oldest.where(address.notin_(sorted(self._held)))
        found = connection.execute(oldest.limit(self._store.dialect.expire_batch))
        return [address for (address,) in found]

    def _around_locks(self, addresses: list[str]) -> int:
        """Change the rows of *addresses* but for those that others hold; return how many."""
        locks_rows = self._store.dialect.locks_rows
        named = self._store.address.in_(sorted(addresses))

        def work(connection: Connection) -> int:
            return self._change(connection, self._condition, named)

        try:
            return retrying(self._store, work, wait_for_locks=not locks_rows)
        except LockedError:
            if not locks_rows or len(self._held) == _MOST_HELD:
                raise
        if len(addresses) == 1:
            self._held.update(addresses)
            return 0
        middle = len(addresses) // 2
        return sum(map(self._around_locks, (addresses[:middle], addresses[middle:])))
