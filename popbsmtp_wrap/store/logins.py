"""Logins in the table: record, find, list, revoke, expire.

The database's clock decides everywhere; a client's clock appears in no statement.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.sql.expression import Executable

from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.errors import MisfitError, PopbsmtpError, RowRefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.dialects.base import AHEAD_S, NOT_KEPT
from popbsmtp_wrap.store.engine import Store, retrying, transaction
from popbsmtp_wrap.store.portions import in_portions, kept_as_they_are, refused_rows
from popbsmtp_wrap.store.row_by_row import change_rows
from popbsmtp_wrap.store.tombstone import (
    expired_ranges,
    is_live,
    is_tombstone,
    outlasts,
    revoked_now,
)

# What the narrow columns of an old script take: varchar(20) for a user, imap and pop3.
_SHORT_USER = 20
_SHORT_SERVICE = 4
# A login that is written within this is one of now. Any other is rounded up to whole seconds:
# rounded down, it would lie after a revocation that it was before (tombstone.py).
_PROMPT_S = 0.2
# What may pass between an upsert and a look at its row, in whole seconds.
_KEPT_S = 5
# Addresses that one statement revokes: their rows are locked together.
_MOST_REVOKED = 100


@dataclass(frozen=True)
class Row:
    """A row of the table: times in Unix seconds, remaining_s negative when expired.

    *may_relay* is what a lookup says; a time too far ahead of the clock is no login either.
    """

    address: str
    user: str | None
    service: str | None
    first_seen: int | None
    last_seen: int
    remaining_s: int
    may_relay: bool = True


def upsert(store: Store, logins: Sequence[Login]) -> Executable:
    """Return the one statement that records *logins*.

    One row per address, as PostgreSQL demands; sorted, so that two batches cannot deadlock.
    """
    dialect = store.dialect
    rows = []
    for login in newest(logins):
        seen = dialect.ago(sa.bindparam(None, login.age_s, sa.Integer)) if login.age_s else None
        seen = dialect.now() if seen is None else seen
        rows.append(row(store, login.address, seen, login.user, login.service))
    return upsert_rows(store, rows)


def newest(logins: Iterable[Login]) -> list[Login]:
    """Return the last login of each address, sorted by address."""
    found: dict[str, Login] = {}
    for login in logins:
        known = found.get(login.address)
        if known is None or login.age_s <= known.age_s:
            found[login.address] = login
    return [login for _, login in sorted(found.items())]


def row(store: Store, address: Any, seen: Any, user: Any, service: Any) -> dict[str, Any]:
    """Return the columns of a row that are configured, each with its value or expression."""
    database = store.database
    columns = {
        database.address_column: address,
        database.last_seen_column: seen,
        database.first_seen_column: seen,
        database.user_column: user,
        database.service_column: service,
    }
    columns.pop("", None)
    return columns


def upsert_rows(store: Store, rows: Sequence[Mapping[str, Any]]) -> Executable:
    """Return the statement that writes *rows*: one for each address, see row()."""
    database, dialect = store.database, store.dialect
    insert = dialect.insert(store.table).values(rows)
    new = dialect.new(insert)
    # A late record never moves last_seen back, and a time ahead of the clock never stays.
    seen = new[database.last_seen_column]
    keeps = sa.or_(
        sa.and_(
            store.last_seen > seen,
            # Not now(): that is the clock before this statement waited for another one's row.
            store.last_seen <= dialect.ahead(AHEAD_S),
        ),
        outlasts(store, seen),
    )
    # last_seen comes last: MySQL assigns from left to right and sees what it has assigned.
    names = [database.user_column, database.service_column, database.last_seen_column]
    changes = [
        (name, sa.case((keeps, store.table.c[name]), else_=new[name])) for name in names if name
    ]
    return dialect.upsert(insert, store.address, changes)  # type: ignore[no-any-return]  # 1.4 has no type for it


def record(store: Store, login: Login, patience_s: float = 5.0, since: float | None = None) -> None:
    """Commit *login*; names that their columns do not take are escaped and cut, then left out.

    *since* is when it was *login.age_s* old, on the monotonic clock, if that is not now: what it
    waits for a connection and for other writers makes it older. Raise StoreUnavailableError,
    RefusedError or SchemaError when it is not committed.
    """
    attempts = spellings(login)
    since = time.monotonic() if since is None else since

    def write(connection: Connection, attempt: Login) -> bool:
        store.dialect.begin_write(connection.exec_driver_sql)
        old = aged(attempt, since, time.monotonic())
        count = connection.execute(upsert(store, [old])).rowcount
        return not is_short(store, count, 1) or is_kept(store, old, connection)

    for attempt in attempts:
        try:
            kept = retrying(store, partial(write, attempt=attempt), patience_s)
        except PopbsmtpError as error:
            if attempt is attempts[-1] or not isinstance(error, MisfitError):
                raise
        else:
            if not kept:
                raise not_kept(store)
            return


def aged(login: Login, since: float, now: float) -> Login:
    """Return *login*, which was as old as it says at *since*, as it is at *now*."""
    passed_s = now - since
    return replace(login, age_s=login.age_s + ceil(passed_s)) if passed_s > _PROMPT_S else login


def is_short(store: Store, count: int, rows: int) -> bool:
    """Tell whether an upsert of *rows* that counted *count* has left some out, without an error."""
    # Some drivers count nothing: -1.
    return store.dialect.counts_upserts and 0 <= count < rows


def is_kept(store: Store, login: Login, connection: Connection) -> bool:
    """Tell whether the row of *login*, written just now, is there.

    A trigger may put it where the count does not see it: into a partition, the old way.
    """
    oldest = store.dialect.ago(login.age_s + _KEPT_S)
    query = sa.select(store.address).where(store.address == login.address)
    return connection.execute(query.where(store.last_seen >= oldest)).first() is not None


def not_kept(store: Store) -> RowRefusedError:
    """Return the error for a login that the table drops without one."""
    return RowRefusedError(f"{masked(store.database.url)}: {NOT_KEPT}")


def spellings(login: Login) -> list[Login]:
    """Return *login* as it is, with names that narrow columns take, and without names."""
    if not (login.user or login.service):
        return [login]
    short = replace(
        login,
        user=_plain(login.user, _SHORT_USER),
        service=_plain(login.service, _SHORT_SERVICE),
    )
    return [login, short, replace(login, user=None, service=None)]


def _plain(name: str | None, longest: int) -> str | None:
    """Return *name* as a narrow column of an old script takes it."""
    if name is None:
        return None
    return name.encode("ascii", "backslashreplace").decode("ascii")[:longest] or None


def rows(store: Store, grace_s: int, address: str | None = None) -> Iterator[Row]:
    """Yield the logins in the table, newest first, or that of one canonical *address*."""
    database, dialect = store.database, store.dialect

    def optional(name: str) -> Any:
        return store.table.c[name] if name else sa.null()

    first_seen = (
        dialect.epoch(store.table.c[database.first_seen_column])
        if database.first_seen_column
        else sa.null()
    )
    query = sa.select(
        store.address,
        optional(database.user_column),
        optional(database.service_column),
        first_seen,
        dialect.epoch(store.last_seen),
        sa.literal(grace_s) - dialect.age_s(store.last_seen),
        dialect.fresh(store.last_seen, grace_s),
    )
    # An old script may have left rows without an address or a time; nobody may relay by them.
    query = query.where(store.address.isnot(None)).where(dialect.is_known(store.last_seen))
    query = query.where(sa.not_(is_tombstone(store)))
    if address is not None:
        query = query.where(store.address == address)
    query = query.order_by(store.last_seen.desc(), store.address)
    with transaction(store) as connection:
        for found, user, service, first, last, remaining, may_relay in connection.execute(query):
            since = None if first is None else int(first)
            times = (since, int(last), int(remaining))
            yield Row(unpadded(found), user, service, *times, bool(may_relay))


def unpadded(address: str) -> str:
    """Return *address* as it was written: PostgreSQL's char(n) adds blanks, and ignores them."""
    return address.rstrip(" ")


def remaining_s(store: Store, address: str, grace_s: int) -> int | None:
    """Return how many seconds canonical *address* may still relay, None if it may not.

    This is the condition that Postfix's map asks. Raise StoreUnavailableError when the database
    gives no answer.
    """
    query = (
        sa.select(sa.literal(grace_s) - store.dialect.age_s(store.last_seen))
        .where(store.address == address)
        .where(store.dialect.fresh(store.last_seen, grace_s))
    )
    with transaction(store) as connection:
        found = connection.execute(query).scalar()
    return None if found is None else int(found)


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
