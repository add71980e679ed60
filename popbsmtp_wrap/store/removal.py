"""Revoke, expire and delete logins in the table.

The database's clock decides; a client's clock appears in no statement.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.store.engine import Store, retrying
from popbsmtp_wrap.store.portions import in_portions, kept_as_they_are, refused_rows
from popbsmtp_wrap.store.row_by_row import change_rows
from popbsmtp_wrap.store.tombstone import expired_ranges, is_live, is_tombstone, revoked_now
from popbsmtp_wrap.store.upsert import row

# Addresses that one statement revokes: their rows are locked together.
_MOST_REVOKED = 100


def delete(store: Store, addresses: Iterable[str]) -> int:
    """Delete the rows of canonical *addresses*; return how many. A login from before may return."""
    statement = store.table.delete().where(store.address.in_(sorted(set(addresses))))
    return retrying(store, lambda c: c.execute(statement).rowcount)


def revoke(store: Store, addresses: Iterable[str] | None) -> int:
    """Revoke canonical *addresses*, or every address of the table for None; return how many rows.

    No earlier login counts after it, whichever process writes it later (tombstone.py); the next
    login does.
    With None that holds for the addresses that have a row.
    """
    if addresses is None:
        return _revoke_all(store)
    listed = sorted(set(addresses))
    revoked, live, refused = 0, set[str](), dict[str, PopbsmtpError]()
    for start in range(0, len(listed), _MOST_REVOKED):
        portion = listed[start : start + _MOST_REVOKED]
        done = change_rows(store, portion, partial(_revoke, store), most_locked=0)
        refused |= done.refused
        for found, still_live in done.results:
            revoked += found
            live |= still_live
    if refused:
        error = next(iter(refused.values()))
        raise refused_rows(error, refused, "which may still relay; the others are revoked")
    if live:
        raise kept_as_they_are(store, live, "which may still relay")
    return revoked


def _revoke(store: Store, addresses: Sequence[str], connection: Connection) -> tuple[int, set[str]]:
    """Return how many of *addresses* had logged in, and which of them are live all the same."""
    store.dialect.begin_write(connection.exec_driver_sql)
    named, column = store.address.in_(addresses), store.database.last_seen_column
    logged_in = sa.or_(store.last_seen.is_(None), sa.not_(is_tombstone(store)))
    count = sa.select(sa.func.count()).select_from(store.table).where(named).where(logged_in)
    found = int(connection.execute(count).scalar() or 0)
    rows = [
        {**row(store, address, store.dialect.now(), None, None), column: revoked_now(store)}
        for address in addresses
    ]
    insert = store.dialect.insert(store.table).values(rows)
    changes = [(column, store.dialect.new(insert)[column])]
    connection.execute(store.dialect.upsert(insert, store.address, changes))
    # Once more, now that the rows are ours: what was written while this waited is revoked, too.
    connection.execute(store.table.update().where(named).values({column: revoked_now(store)}))
    live = sa.select(store.address).where(named).where(is_live(store))
    return found, {address for (address,) in connection.execute(live)}


def _revoke_all(store: Store) -> int:
    # Nobody may relay by a row without an address.
    live = sa.and_(is_live(store), store.address.isnot(None))

    def change(connection: Connection, _: Any, named: Any) -> int:
        store.dialect.begin_write(connection.exec_driver_sql)
        moment = {store.database.last_seen_column: revoked_now(store)}
        statement = store.table.update().where(named).values(moment)
        found = connection.execute(statement.where(live)).rowcount
        # As in _revoke().
        connection.execute(statement.where(is_tombstone(store)))
        # A trigger may have put back what was.
        left = sa.select(sa.func.count()).select_from(store.table).where(named).where(live)
        return max(0, found - int(connection.execute(left).scalar() or 0))

    return in_portions(store, [live], change)


def expired_count(store: Store, grace_s: int) -> int:
    """Return how many rows expire() would delete."""
    query = (
        sa.select(sa.func.count())
        .select_from(store.table)
        .where(sa.or_(*expired_ranges(store, grace_s)))
    )
    return int(retrying(store, lambda c: c.execute(query).scalar()) or 0)


def expire(store: Store, grace_s: int) -> int:
    """Delete what is older than *grace_s* seconds; return how many rows.

    A revocation stays until no login from before it can count any more. Safe beside logins and
    other expirers: a row that a login refreshes meanwhile stays, because the DELETE asks for its
    age again. A row that another transaction holds stays for the next time; many of them are a
    table that is locked, and raise StoreUnavailableError. One that the database keeps without an
    error is left out, and raises RefusedError at the end. *store* should stay connected, see
    open_store(): each batch connects twice otherwise, which costs as much as the batch.
    """

    def change(connection: Connection, is_old: Any, named: Any) -> int:
        store.dialect.begin_expire(connection)
        return connection.execute(store.table.delete().where(named).where(is_old)).rowcount

    return in_portions(store, expired_ranges(store, grace_s), change)
