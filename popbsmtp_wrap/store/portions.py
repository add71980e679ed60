"""Changes to many rows, a small portion at a time."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.store.engine import Store, explained, retrying


def in_portions(
    store: Store, chosen: Iterable[Any], change: Callable[[Connection, Any, Any], int]
) -> int:
    """Have *change* done to the rows of each condition in *chosen*, oldest first; return the sum.

    *change* gets a connection, the condition, which it asks again, and another one that names the
    rows: statement-based replication calls a LIMIT unsafe. Rows stay locked for one portion only,
    and between portions the others get their time.
    """
    try:
        with store.dialect.expiring(store.engine) as between:
            return sum(_each(store, condition, change, between) for condition in chosen)
    except DBAPIError as error:
        raise explained(store, error) from error
    finally:
        # MariaDB logs a warning for a client that goes without a word.
        store.engine.dispose()


def _each(
    store: Store,
    condition: Any,
    change: Callable[[Connection, Any, Any], int],
    between: Callable[[], object],
) -> int:
    size, changed = store.dialect.expire_batch, 0
    oldest = sa.select(store.address).where(condition).order_by(store.last_seen).limit(size)

    def portion(connection: Connection) -> list[str]:
        return [address for (address,) in connection.execute(oldest)]

    while addresses := retrying(store, portion):
        started = time.monotonic()
        named = store.address.in_(sorted(addresses))
        changed += retrying(store, partial(_change, change, condition, named))
        if len(addresses) < size:
            break
        took_s = time.monotonic() - started
        between()
        time.sleep(took_s * store.dialect.expire_rest)
    return changed


def _change(
    change: Callable[[Connection, Any, Any], int],
    condition: Any,
    named: Any,
    connection: Connection,
) -> int:
    return change(connection, condition, named)
