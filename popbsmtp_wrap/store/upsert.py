"""Write logins into the table.

The database's clock decides; a client's clock appears in no statement.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
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
from popbsmtp_wrap.store.engine import Store, retrying
from popbsmtp_wrap.store.tombstone import outlasts

# What the narrow columns of an old script take: varchar(20) for a user, imap and pop3.
_SHORT_USER = 20
_SHORT_SERVICE = 4
# A login that is written within this is one of now. Any other is rounded up to whole seconds:
# rounded down, it would lie after a revocation that it was before (tombstone.py).
_PROMPT_S = 0.2
# What may pass between an upsert and a look at its row, in whole seconds.
_KEPT_S = 5


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
