"""What `popbsmtp doctor` asks the database."""

import time
from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.expression import Executable

from popbsmtp_wrap.errors import RefusedError, RowRefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.engine import Store, explained, transaction
from popbsmtp_wrap.store.upsert import upsert

# TEST-NET-1, RFC 5737: nobody's address.
CANARY = "192.0.2.251"


def privileges(store: Store) -> Mapping[str, bool]:
    """Return whether this account may record, look up and delete; nothing is changed."""
    seen = store.last_seen
    return {
        "record": _permits(store, upsert(store, [Login(CANARY)])),
        "look up": _permits(
            store, sa.select(store.address).where(store.address == CANARY).where(seen.isnot(None))
        ),
        "delete": _permits(
            store,
            store.table.delete().where(store.address == CANARY).where(seen < store.dialect.ago(0)),
        ),
    }


def _permits(store: Store, statement: Executable) -> bool:
    """Try *statement* in a transaction that is rolled back."""
    try:
        with store.engine.connect() as connection, connection.begin() as attempt:
            connection.execute(statement)
            attempt.rollback()
    except DBAPIError as error:
        trouble = explained(store, error)
        if isinstance(trouble, RowRefusedError):
            return True  # the table's rules do not allow nobody's address, and the account asks
        if isinstance(trouble, RefusedError):
            return False
        raise trouble from error
    return True


def clock_ahead_s(store: Store) -> float:
    """Return how many seconds the database's clock is ahead of this machine's."""
    before = time.time()
    with transaction(store) as connection:
        now = connection.execute(sa.select(store.dialect.epoch(store.dialect.now()))).scalar()
    after = time.time()
    # Its clock is read to the second, at some moment in between.
    if before - 1 <= int(now or 0) <= after:
        return 0.0
    return int(now or 0) - before
