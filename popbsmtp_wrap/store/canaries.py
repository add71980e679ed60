"""Whether the database takes logins at all, when it does not take some.

A trigger, a policy or a partition may raise for one row what a database raises for all that lacks a
permission or a table. So other logins are tried, in a transaction that is undone.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.diagnosis import CANARY
from popbsmtp_wrap.store.engine import Store
from popbsmtp_wrap.store.queries import unpadded
from popbsmtp_wrap.store.tombstone import is_live
from popbsmtp_wrap.store.upsert import upsert

# Expired where a table without transactions keeps it.
_LONG_AGO_S: Final = 30 * 24 * 3600

# Does some work on a connection, as engine.retrying() does.
Run = Callable[[Callable[[Connection], Any]], Any]


class _UndoneError(Exception):
    """What was done in a transaction is not to be kept."""


def takes_any(store: Store, run: Run, close: Callable[[], None], taken: Login | None) -> bool:
    """Tell whether the database would take one of a few logins; *close* ends run()'s connection.

    They are nobody's, the one that was *taken* last, and the newest in the table: the rules of the
    table may not allow nobody's address, and a new process has no other.
    """
    if _would_take(store, run, close, Login(CANARY, "popbsmtp", "imap")):
        return True
    if taken is not None and _would_take(store, run, close, taken):
        return True
    found = _newest(store, run)
    return found is not None and _would_take(store, run, close, found)


def _would_take(store: Store, run: Run, close: Callable[[], None], login: Login) -> bool:
    statement = upsert(store, [replace(login, age_s=_LONG_AGO_S)])
    # SQLAlchemy 1.4 commits each INSERT outside of its own transactions unless told not to.
    statement = statement.execution_options(autocommit=False)

    def write(connection: Connection) -> None:
        store.dialect.begin_write(connection.exec_driver_sql)
        if store.autocommit:
            connection.exec_driver_sql("BEGIN")
        store.dialect.limit_locks(connection)
        connection.execute(statement)
        raise _UndoneError

    try:
        run(write)
    except _UndoneError:
        return True
    except PopbsmtpError:
        return False
    finally:
        # Its transaction is open, or has failed.
        close()
    return False


def _newest(store: Store, run: Run) -> Login | None:
    """Return the last login in the table, None when there is none or the account may not look."""
    database = store.database
    columns = [
        store.table.c[name] if name else sa.null()
        for name in (database.user_column, database.service_column)
    ]
    query = sa.select(store.address, *columns).where(is_live(store))
    query = query.order_by(store.last_seen.desc()).limit(1)
    try:
        found = run(lambda connection: connection.execute(query).first())
    except PopbsmtpError:
        return None
    return Login(unpadded(found[0]), *found[1:]) if found else None
