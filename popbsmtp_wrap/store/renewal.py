"""Renewal of rows that are there: a session that goes on is a login that goes on.

An UPDATE, not an upsert, of rows that are young enough: an address that was revoked stays so until
its next login, and one whose login was not recorded (a master user, an ignored network) gets
nothing, not even by a row that expired long ago and that no expire job has deleted.
"""

import time
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from popbsmtp_wrap.store.dialects.base import AHEAD_S
from popbsmtp_wrap.store.engine import Store
from popbsmtp_wrap.store.row_by_row import change_rows

# Rows that are locked at once: a login of one of them waits for some milliseconds.
MOST: Final = 100


class Renewed(NamedTuple):
    """How many rows were renewed, and why the database refused others, by address."""

    rows: int
    refused: Mapping[str, str]


def renew(store: Store, addresses: Sequence[str], since: float, oldest_s: float) -> Renewed:
    """Commit that canonical *addresses*, at most MOST, were seen at *since*.

    *since* is on the monotonic clock. Rows that were more than *oldest_s* old then stay as they
    are, and so do rows that another transaction holds. Times only move forward. Raise
    StoreUnavailableError, RefusedError or SchemaError when nothing is committed.
    """

    def write(piece: Sequence[str], connection: Connection) -> int:
        store.dialect.begin_write(connection.exec_driver_sql)
        store.dialect.limit_locks(connection)
        wanted = store.address.in_(sorted(piece))
        # In the order of upsert(): an UPDATE takes the rows as they come, and then a login's batch
        # and this may wait for each other.
        in_order = sa.select(store.address).where(wanted)
        in_order = in_order.order_by(store.dialect.bytewise(store.address))
        connection.execute(in_order.with_for_update()).all()
        age_s = max(0, ceil(time.monotonic() - since))
        seen = store.dialect.ago(sa.bindparam(None, age_s, sa.Integer))
        oldest = store.dialect.ago(sa.bindparam(None, age_s + ceil(oldest_s), sa.Integer))
        keeps = sa.and_(
            store.last_seen > seen,
            store.last_seen <= store.dialect.ahead(AHEAD_S),
        )
        statement = (
            store.table.update()
            .where(wanted)
            .where(store.dialect.is_known(store.last_seen))
            .where(store.last_seen >= oldest)
            .values({store.last_seen: sa.case((keeps, store.last_seen), else_=seen)})
        )
        return connection.execute(statement).rowcount

    done = change_rows(store, addresses, write)
    return Renewed(sum(done.results), {a: str(error) for a, error in done.refused.items()})
