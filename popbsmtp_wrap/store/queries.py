"""Find and list logins in the table.

The database's clock decides; a client's clock appears in no statement.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from popbsmtp_wrap.store.engine import Store, transaction
from popbsmtp_wrap.store.tombstone import is_tombstone


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
