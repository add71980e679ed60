"""Changes to many rows, a small portion at a time."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.errors import LockedError, PopbsmtpError, RefusedError
from popbsmtp_wrap.store.engine import Store, explained, retrying
from popbsmtp_wrap.store.row_by_row import change_rows, may_be_of_one_row

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
    refuses to change, or keeps as it is without an error; raise RefusedError when the others are
    done.
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
    refused = {address: error for one in portions for address, error in one.refused.items()}
    if refused:
        raise refused_rows(next(iter(refused.values())), refused, f"{changed} others are changed")
    kept: set[str | None] = set().union(*(one.kept for one in portions))
    if kept:
        raise kept_as_they_are(store, kept, f"{changed} others are changed")
    return changed


def kept_as_they_are(store: Store, addresses: Collection[str | None], more: str) -> RefusedError:
    """Return the error for rows that stay as they are although no statement failed."""
    count = f"{len(addresses)} rows" if len(addresses) > 1 else "a row"
    return RefusedError(
        f"{masked(store.database.url)}: the database kept {count} of {store.table.name} as before"
        f" without an error ({_some(addresses)}), {more}; remove the trigger, rule or row-level"
        " security policy that keeps them, or exempt this user from it"
    )


def refused_rows(
    error: PopbsmtpError, addresses: Collection[str | None], more: str
) -> RefusedError:
    """Return the error for rows that the database refused to change, one of them by *error*."""
    return RefusedError(f"{error}; refused for {_some(addresses)}, {more}")


def _some(addresses: Collection[str | None]) -> str:
    """Return *addresses* for a message, where there are many of them the first three."""
    some = ", ".join(sorted(address or "NULL" for address in addresses)[:3])
    more = len(addresses) - 3
    return f"{some} and {more} more" if more > 0 else some


class _Portions:
    """The rows of one condition, without those that cannot be changed."""

    def __init__(self, store: Store, condition: Any, change: Change) -> None:
        self._store = store
        self._condition = condition
        self._change = change
        self._held: set[str] = set()
        self.refused: dict[str | None, PopbsmtpError] = {}
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
                changed += self._named(addresses)
            is_last = len(found) < limit and len(self._suspected) == suspected
            # A statement has to name those that it leaves out.
            if is_last or len(self.kept) + len(self.refused) >= limit:
                break
            took_s = time.monotonic() - started
            between()
            time.sleep(took_s * self._store.dialect.expire_rest)
        return changed

    def _next(self, connection: Connection) -> list[str | None]:
        address = self._store.address
        oldest = sa.select(address).where(self._condition).order_by(self._store.last_seen)
        left_out = {a for a in (*self._held, *self.kept, *self.refused) if a is not None}
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
        except PopbsmtpError as error:
            if not may_be_of_one_row(self._store, error):
                raise
            self.refused[None] = error
            return 0
        if stay:
            self.kept.add(None)
        return count

    def _named(self, addresses: list[str]) -> int:
        """Change the rows of *addresses* but for those that cannot be; return how many."""
        done = change_rows(
            self._store, addresses, self._change_named, most_locked=_MOST_HELD - len(self._held)
        )
        self._held.update(done.locked)
        for address, error in done.refused.items():
            self.refused[address] = error
        left = set().union(*(left for _, left in done.results))
        self.kept |= self._suspected & left
        self._suspected |= left
        return sum(count for count, _ in done.results)

    def _change_named(
        self, addresses: Sequence[str], connection: Connection
    ) -> tuple[int, set[str]]:
        """Return how many rows are changed, and those that are as before."""
        named = self._store.address.in_(sorted(addresses))
        count = self._change(connection, self._condition, named)
        if count >= len(addresses) and not self._checks:
            return count, set()
        query = sa.select(self._store.address).where(named).where(self._condition)
        left = {address for (address,) in connection.execute(query)}
        return min(count, len(addresses) - len(left)), left
