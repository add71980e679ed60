"""Many logins in one commit: the way from the recorder into the table."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.canaries import takes_any
from popbsmtp_wrap.store.engine import Store, explained, retrying
from popbsmtp_wrap.store.persistent_connection import PersistentConnection
from popbsmtp_wrap.store.queries import unpadded
from popbsmtp_wrap.store.sifting import NotWritten, Outcome, Seen, Sifting
from popbsmtp_wrap.store.upsert import aged, is_kept, is_short, newest, not_kept, row, upsert_rows

__all__ = ["LARGEST_BATCH", "BatchWriter", "NotWritten", "Outcome", "Seen", "largest_size"]

Result = TypeVar("Result")

# SQLAlchemy takes 0.2 ms for each row of a statement that it has not seen, so the statements of
# these sizes are compiled once and kept: about 150 bytes of text for each row.
_SIZES: Final[tuple[int, ...]] = (*range(1, 33), 64, 128, 256, 512)
LARGEST_BATCH: Final = _SIZES[-1]
# How much of a caller's time the server may spend on a lock.
_LOCK_SHARE: Final = 0.8


class _Statement(NamedTuple):
    text: str
    # The names of the parameters in the order of the text, None where the driver takes names.
    order: tuple[str, ...] | None
    # Parameters that SQLAlchemy makes of the constants in an expression.
    constants: Mapping[str, Any]


class BatchWriter:
    """Writes logins, each statement with one commit. Not safe to share between threads."""

    def __init__(self, store: Store) -> None:
        """A *store* with autocommit is the fastest, see open_store()."""
        self.store = store
        self._session = PersistentConnection(store)
        self._statements: dict[int, _Statement] = {}
        self._nothing = _nothing(store)
        # The last login that the database has taken.
        self._taken: Login | None = None
        # Why it is not known whether the database takes anything.
        self._doubt: PopbsmtpError | None = None

    def write(self, batch: Sequence[Seen]) -> Outcome:
        """Commit *batch* and return what is not committed; ages grow until the statement is sent.

        Deadlocks and lost connections are retried. Names that their columns do not take are
        escaped and cut, then left out. Raise StoreUnavailableError, RefusedError or SchemaError
        unless every login is either committed or in the outcome; those that are committed then may
        be written again. The error is *in_doubt* when the table is all right, and takes neither
        these logins nor any other that could be tried: others may be taken.

        A batch without trouble is one statement. Locked rows take about 0.3 s where the server can
        tell which they are (PostgreSQL, MariaDB 10.6, MySQL 8, where it is 1 s), and never more
        than answer_s and one answer; a locked table or a server that hangs takes answer_s.
        """
        try:
            return Sifting(self, time.monotonic() + self.store.answer_s).write(batch)
        except PopbsmtpError as error:
            self._doubt = error if error.in_doubt else None
            raise

    def write_at_once(self, batch: Sequence[Seen], limit_s: float) -> bool:
        """Commit *batch* on the connection that is open, by one attempt of at most *limit_s*.

        This is for a caller who may not wait. Return False when it is not possible, or has failed
        for whatever reason: then it is for write() to do, which may find it done.
        """
        driver = self._session.driver_connection
        if driver is None:
            return False
        try:
            commits = self.store.autocommit or self.store.dialect.commit_at_once(driver)
            if not commits or not self._session.limit(limit_s):
                return False
            with closing(driver.cursor()) as cursor:
                # The server gives up before we do: what it goes on with would stay with it.
                before = self._lock_limit(limit_s * _LOCK_SHARE)

                def execute(text: str, values: Any) -> int:
                    self._session.execute(cursor, text, values, before)
                    return int(cursor.rowcount)

                kept = self._execute(execute, batch)
            self._session.check_in_place()
        except Exception:  # noqa: BLE001 - write() meets it again, and says what it is
            self._session.close()
            return False
        if kept:
            self._has_taken(batch)
        return kept

    def commit(self, batch: Sequence[Seen], lock_s: float | None) -> None:
        """Commit all of *batch*, or raise; *lock_s* is for dialect.lock_limit()."""
        kept = self._retrying(
            partial(self._write, batch, self._lock_limit(lock_s)),
            partial(self._session.begin, keep_ambiguous=True),
        )
        if not kept and not (len(batch) == 1 and self._is_kept(batch[0])):
            raise not_kept(self.store)
        self._has_taken(batch)

    def _is_kept(self, seen: Seen) -> bool:
        login = aged(seen.login, seen.since, time.monotonic())
        return self._retrying(partial(is_kept, self.store, login))

    def reconnect(self) -> None:
        """Have the next statement executed on a new connection."""
        self._session.close()

    def _has_taken(self, batch: Sequence[Seen]) -> None:
        self._taken, self._doubt = batch[-1].login, None

    def take_table(self, lock_s: float) -> None:
        """Raise as write() does unless the table takes logins; wait *lock_s* for its lock.

        No row changes, and no row's lock is waited for. The server asks for the same permissions
        and the same lock on the table as for a login.
        """
        before = self._lock_limit(lock_s)

        def take(connection: Connection) -> None:
            self.store.dialect.begin_write(connection.exec_driver_sql)
            for statement in self._nothing:
                connection.exec_driver_sql(before + statement)

        self._retrying(take)

    def held(self, addresses: Collection[str]) -> set[str]:
        """Return those of *addresses* whose rows others hold; none where the server cannot tell."""
        column = self.store.address
        query = sa.select(column).where(column.in_(sorted(addresses)))
        try:
            with self._session.begin() as connection:
                free = connection.execute(self.store.dialect.skip_locked(query)).all()
            with self._session.begin() as connection:
                found = connection.execute(query).all()
        except DBAPIError as error:
            if error.connection_invalidated:
                raise explained(self.store, error) from error
            return set()
        held = {address for (address,) in found} - {address for (address,) in free}
        return set(map(unpadded, held))

    def takes_others(self) -> bool:
        """Tell whether the database would take another login now; none is kept."""
        return takes_any(self.store, self._retrying, self._session.close, self._taken)

    def missing(self, addresses: Collection[str], grace_s: int) -> set[str]:
        """Return those of canonical *addresses* that may not relay: revoked, expired or no row.

        Raise as write() does.
        """
        query = sa.select(self.store.address).where(self.store.address.in_(sorted(addresses)))
        query = query.where(self.store.dialect.fresh(self.store.last_seen, grace_s))
        found = self._retrying(lambda connection: connection.execute(query).all())
        return set(addresses) - {unpadded(address) for (address,) in found}

    @property
    def replacements(self) -> int:
        """How often another database was found in place of the one that was open."""
        return self._session.replacements

    @property
    def file(self) -> str | None:
        """Device and inode of the open database, None for a server or when none is open."""
        return self.store.dialect.file_of(self._session.driver_connection)

    def ping(self) -> None:
        """Raise as write() does unless the database would take logins now.

        A table that is locked does not; it is waited for half as long as for an answer.
        """
        self.take_table(self.store.answer_s / 2)
        if (doubt := self._doubt) is not None:
            if not self.takes_others():
                raise type(doubt)(str(doubt))
            self._doubt = None

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
        self.store.engine.dispose()

    def _retrying(
        self,
        work: Callable[[Connection], Result],
        begin: Callable[[], AbstractContextManager[Connection]] | None = None,
    ) -> Result:
        return retrying(
            self.store,
            work,
            begin=begin or self._session.begin,
            # SQLite's lock is that of the whole file.
            wait_for_locks=not self.store.dialect.locks_rows,
        )

    def _lock_limit(self, limit_s: float | None) -> str:
        return self.store.dialect.lock_limit(self.store.engine, limit_s)

    def _write(self, batch: Sequence[Seen], before: str, connection: Connection) -> bool:
        self.store.dialect.begin_write(connection.exec_driver_sql)

        def execute(text: str, values: Any) -> int:
            return int(connection.exec_driver_sql(before + text, values).rowcount)

        return self._execute(execute, batch)

    def _execute(self, execute: Callable[[str, Any], int], batch: Sequence[Seen]) -> bool:
        """Write *batch* by *execute*, which returns a count; return False if rows are left out."""
        kept = True
        now = time.monotonic()
        logins = newest(aged(login, since, now) for login, since in batch)
        done = 0
        while done < len(logins):
            size = largest_size(len(logins) - done)
            count = self._execute_rows(execute, logins[done : done + size])
            kept = kept and not is_short(self.store, count, size)
            done += size
        return kept

    def _execute_rows(self, execute: Callable[[str, Any], int], logins: Sequence[Login]) -> int:
        size = len(logins)
        if size not in self._statements:
            self._statements[size] = self._compile(size)
        text, order, constants = self._statements[size]
        values = dict(constants)
        for number, login in enumerate(logins):
            values[f"a{number}"] = login.address
            values[f"t{number}"] = login.age_s
            values[f"u{number}"] = login.user
            values[f"s{number}"] = login.service
        parameters: Any = values if order is None else tuple(values[name] for name in order)
        return execute(text, parameters)

    def _compile(self, size: int) -> _Statement:
        """Return the upsert of *size* rows as text for the driver."""
        compiled: Any = upsert_rows(
            self.store, [self._placeholders(number) for number in range(size)]
        ).compile(dialect=self.store.engine.dialect)  # type: ignore[attr-defined]  # Executable has it
        order = tuple(compiled.positiontup) if compiled.positional else None
        # Ours have no value yet.
        constants = {name: value for name, value in compiled.params.items() if value is not None}
        return _Statement(str(compiled), order, constants)

    def _placeholders(self, number: int) -> Mapping[str, Any]:
        age_s = sa.bindparam(f"t{number}", type_=sa.Integer)
        return row(
            self.store,
            sa.bindparam(f"a{number}", type_=sa.String),
            self.store.dialect.ago(age_s),
            sa.bindparam(f"u{number}", type_=sa.String),
            sa.bindparam(f"s{number}", type_=sa.String),
        )


def _nothing(store: Store) -> list[str]:
    """Return an INSERT and an UPDATE of no row, as text for the driver."""
    none, seen = sa.false(), store.last_seen
    columns = [column for column in store.table.columns if column.name in row(store, *[""] * 4)]
    empty = sa.select(*(sa.null() for _ in columns)).where(none)
    statements = (
        store.table.insert().from_select([column.name for column in columns], empty),
        store.table.update().where(none).values({seen: seen}),
    )
    return [str(s.compile(store.engine)) for s in statements]


def largest_size(count: int) -> int:
    """Return how many of *count* logins, at least 1, go into one statement."""
    return max(size for size in _SIZES if size <= count)
