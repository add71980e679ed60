"""Changes to many rows, a small portion at a time."""

import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.errors import LockedError, RefusedError
from popbsmtp_wrap.store.engine import Store, explained, retrying

# Rows that are left out because others hold them. Finding one takes about ten waits for a lock.
_MOST_HELD: Final = 10
_POWERS: Final = frozenset(2**power for power in range(1, 32))

Change = Callable[[Connection, Any, Any], int]


def in_portions(store: Store, chosen: Iterable[Any], change: Change) -> int:
    """Have *change* done to the rows of each condition in *chosen*, oldest first; return the sum.

    *change* gets a connection, the condition, which it asks again, and another one that names the
    rows: statement-based replication calls a LIMIT unsafe. Rows stay locked for one portion only,
    and between portions the others get their time. A row that another transaction holds is left
    out; raise StoreUnavailableError when there are many of them. So is a row that the database
    keeps as it is without an error; raise RefusedError when the others are done.
    """
    portions = [_Portions(store, condition, change) for condition in chosen]
    try:
        with store.dialect.expiring(store.engine) as between:
            changed = sum(one.all(between) for one in portions)
    except DBAPIError as error:
        raise explained(store, error) from error
    finally:
        # MariaDB logs a warning for a client that goes without a word.
        store.engine.dispose()
    kept: set[str | None] = set().union(*(one.kept for one in portions))
    if kept:
        raise kept_as_they_are(store, kept, f"{changed} others are changed")
    return changed


def kept_as_they_are(store: Store, addresses: Collection[str | None], more: str) -> RefusedError:
    """Return the error for rows that stay as they are although no statement failed."""
    some = ", ".join(sorted(address or "NULL" for address in addresses)[:3])
    count = f"{len(addresses)} rows" if len(addresses) > 1 else "a row"
    return RefusedError(
        f"{masked(store.database.url)}: the database kept {count} of {store.table.name} as before"
        f" without an error ({some}), {more}; remove the trigger, rule or row-level security policy"
        " that keeps them, or exempt this user from it"
    )


class _Portions:
    """The rows of one condition, without those that cannot be changed."""

    def __init__(self, store: Store, condition: Any, change: Change) -> None:
        self._store = store
        self._condition = condition
        self._change = change
        self._held: set[str] = set()
        # Rows that a change has left as they were, once.
        self._suspected: set[str] = set()
        # And twice, so that it was nobody else's doing meanwhile. None is a row without an address.
        self.kept: set[str | None] = set()
        self._did_nulls = False
        self._checks = False

    def all(self, between: Callable[[], object]) -> int:
        """Change portion by portion; call *between* between them; return how many rows."""
        changed = 0
        limit = self._store.dialect.expire_batch
        number = 0
        while found := retrying(self._store, self._next):
            started = time.monotonic()
            number += 1
            # A trigger may put back what was deleted. Looking at the 2nd, 4th, 8th portion bounds
            # how long that can go on, and costs nothing in most runs.
            self._checks = bool(self._suspected) or number in _POWERS
            suspected = len(self._suspected)
            addresses = [address for address in found if address is not None]
            if len(addresses) < len(found):
                changed += self._without_address()
            if addresses:
                changed += self._around_locks(addresses)
            is_last = len(found) < limit and len(self._suspected) == suspected
            # A statement has to name those that it leaves out.
            if is_last or len(self.kept) >= limit:
                break
            took_s = time.monotonic() - started
            between()
            time.sleep(took_s * self._store.dialect.expire_rest)
        return changed

    def _next(self, connection: Connection) -> list[str | None]:
        address = self._store.address
        oldest = sa.select(address).where(self._condition).order_by(self._store.last_seen)
        left_out = {*self._held, *(kept for kept in self.kept if kept is not None)}
        if left_out:
            # NULL is not in a list, nor is it out of it.
            others = address.notin_(sorted(left_out))
            oldest = oldest.where(sa.or_(address.is_(None), others))
        if self._did_nulls:
            oldest = oldest.where(address.isnot(None))
        found = connection.execute(oldest.limit(self._store.dialect.expire_batch))
        return [address for (address,) in found]

    def _without_address(self) -> int:
        """Change the rows that no address names; return how many. Nobody may relay by them."""
        self._did_nulls = True
        named = self._store.address.is_(None)

        def work(connection: Connection) -> tuple[int, bool]:
            count = self._change(connection, self._condition, named)
            left = sa.select(sa.func.count()).select_from(self._store.table).where(named)
            return count, bool(connection.execute(left.where(self._condition)).scalar())

        locks_rows = self._store.dialect.locks_rows
        try:
            count, stay = retrying(self._store, work, wait_for_locks=not locks_rows)
        except LockedError:
            if not locks_rows:
                raise
            return 0
        if stay:
            self.kept.add(None)
        return count

    def _around_locks(self, addresses: list[str]) -> int:
        """Change the rows of *addresses* but for those that others hold; return how many."""
        locks_rows = self._store.dialect.locks_rows
        named = self._store.address.in_(sorted(addresses))

        def work(connection: Connection) -> tuple[int, set[str]]:
            count = self._change(connection, self._condition, named)
            if count >= len(addresses) and not self._checks:
                return count, set()
            left = sa.select(self._store.address).where(named).where(self._condition)
            return count, {address for (address,) in connection.execute(left)}

        try:
            count, left = retrying(self._store, work, wait_for_locks=not locks_rows)
        except LockedError:
            if not locks_rows or len(self._held) == _MOST_HELD:
                raise
        else:
            self.kept |= self._suspected & left
            self._suspected |= left
            return min(count, len(addresses) - len(left))
        if len(addresses) == 1:
            self._held.update(addresses)
            return 0
        middle = len(addresses) // 2
        return sum(map(self._around_locks, (addresses[:middle], addresses[middle:])))
