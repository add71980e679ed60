"""Rows that say when an address was revoked, so that no earlier login can let it in again.

A revoked address keeps its row, with a last_seen that lies REVOKED_S before the revocation: every
lookup, those of older versions and of hand-written maps included, takes it for long expired. The
moment of the revocation is last_seen + REVOKED_S, on the database's clock whichever host revoked,
and a login that was not after it leaves the row alone (upsert.upsert_rows). It needs no column of
its own, so it works in adopted tables.

MySQL and SQLite keep whole seconds, and so do ages, rounded up: a login that has an age has to be
more than ROUNDING_S later than the revocation. One of now wins in the same second: its commit is
later.
"""

from typing import Any, Final

import sqlalchemy as sa

from popbsmtp_wrap.store.dialects.base import AHEAD_S
from popbsmtp_wrap.store.engine import Store

# 20 years of 365.25 days: expired by every grace, and within MySQL's TIMESTAMP (from 1970 on).
REVOKED_S: Final = 631_152_000
# What clocks without fractions lose.
ROUNDING_S: Final = 1
# How much longer than grace expire keeps a revocation. A login from before it has expired by then,
# whichever process still writes it; the rest is for a clock that is set back.
KEPT_MORE_S: Final = 3600
# A row that is older by this than any revocation that expire would keep is an old login.
_LONGEST_S: Final = 366 * 86400


def is_tombstone(store: Store) -> Any:
    """Return the condition that a row stands for a revocation; NULL without a time."""
    return sa.and_(
        store.last_seen >= store.dialect.ago(REVOKED_S + _LONGEST_S),
        store.last_seen <= _latest(store),
    )


def expired_ranges(store: Store, grace_s: int) -> tuple[Any, Any]:
    """Return two conditions for what expire deletes, each one range of the index on last_seen.

    First logins that are older than *grace_s*, then revocations that nothing depends on any more.
    """
    return (
        sa.and_(
            store.last_seen > _latest(store),
            store.last_seen < store.dialect.ago(grace_s),
        ),
        store.last_seen < _oldest_kept(store, grace_s),
    )


def is_live(store: Store) -> Any:
    """Return the condition that a row is younger than any revocation; one range of the index."""
    return store.last_seen > _latest(store)


def outlasts(store: Store, new: Any) -> Any:
    """Return the condition that the row is a revocation that a login at *new* was not after."""
    dialect = store.dialect
    revoked_if_new = dialect.before(new, REVOKED_S)
    return sa.and_(
        store.last_seen <= _latest(store),
        sa.or_(
            store.last_seen > revoked_if_new,
            sa.and_(
                store.last_seen >= dialect.before(new, REVOKED_S + ROUNDING_S),
                new < dialect.now(),
            ),
        ),
    )


def revoked_now(store: Store) -> Any:
    """Return the last_seen of an address that is revoked now."""
    return store.dialect.before(store.dialect.clock(), REVOKED_S)


def _latest(store: Store) -> Any:
    # A revocation by a clock that was ahead must not keep an address out for ever.
    return store.dialect.ago(REVOKED_S - AHEAD_S)


def _oldest_kept(store: Store, grace_s: int) -> Any:
    return store.dialect.ago(REVOKED_S + grace_s + KEPT_MORE_S)
