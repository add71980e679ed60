"""Many logins in one commit: the way from the recorder into the table."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, IntegrityError, InternalError

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.engine import Store, retrying
from popbsmtp_wrap.store.logins import newest, record, row, upsert_rows
from popbsmtp_wrap.store.session import Session

Result = TypeVar("Result")

# SQLAlchemy takes 0.2 ms for each row of a statement that it has not seen, so the statements of
# these sizes are compiled once and kept: about 150 bytes of text for each row.
_SIZES: Final[tuple[int, ...]] = (*range(1, 33), 64, 128, 256, 512)
LARGEST_BATCH: Final = _SIZES[-1]
# What a constraint or a trigger of an adopted table may have against a row.
_OF_ONE_ROW: Final = (DataError, IntegrityError, InternalError)


class Seen(NamedTuple):
    """A login that was *login.age_s* old at *since*, on the monotonic clock."""

    login: Login
    since: float


class NotWritten(NamedTuple):
    """A login of a batch that is not in the table, and what the database says of it."""

    seen: Seen
    reason: str


class Outcome(NamedTuple):
    """What became of a batch: each login that is in neither list is committed.

    *refused*: the database will never take these as they are (a constraint, a trigger, a length).
    *locked*: somebody else holds these rows; they can be written later.
    """

    refused: Sequence[NotWritten] = ()
    locked: Sequence[NotWritten] = ()


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
        self._session = Session(store)
        self._statements: dict[int, _Statement] = {}

    def write(self, batch: Sequence[Seen]) -> Outcome:
        """Commit *batch* and return what is not committed; ages grow until the statement is sent.

        Deadlocks and lost connections are retried. Raise StoreUnavailableError, RefusedError or
        SchemaError unless every login is either committed or in the outcome.
        """
        try:
            self._retrying(partial(self._write, batch))
        except PopbsmtpError as error:
            if not isinstance(error.__cause__, _OF_ONE_ROW):
                raise
            return self._write_singly(batch)
        return Outcome()

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
                self._execute(partial(self._session.execute, cursor), batch)
        except Exception:  # noqa: BLE001 - write() meets it again, and says what it is
            self._session.close()
            return False
        return True

    def _write_singly(self, batch: Sequence[Seen]) -> Outcome:
        """Write all but those that the database does not take, so that they hold nobody up."""
        failures = []
        for seen in batch:
            try:
                # Where a name is the trouble, record() cuts it.
                record(self.store, seen.login, since=seen.since)
            except PopbsmtpError as error:
                failures.append((seen, error))
        if len(failures) == len(batch):
            raise failures[0][1]
        return Outcome(tuple(NotWritten(seen, str(error)) for seen, error in failures))

    def missing(self, addresses: Collection[str], grace_s: int) -> set[str]:
        """Return those of canonical *addresses* that may not relay: revoked, expired or no row.

        Raise as write() does.
        """
        query = sa.select(self.store.address).where(self.store.address.in_(sorted(addresses)))
        query = query.where(self.store.dialect.fresh(self.store.last_seen, grace_s))
        found = self._retrying(lambda connection: connection.execute(query).all())
        return set(addresses) - {address for (address,) in found}

    def ping(self) -> None:
        """Raise as write() does unless the database would take logins now."""
        self._retrying(lambda c: c.execute(sa.select(self.store.address).limit(1)).all())

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
        self.store.engine.dispose()

    def _retrying(self, work: Callable[[Connection], Result]) -> Result:
        return retrying(self.store, work, begin=self._session.begin)

    def _write(self, batch: Sequence[Seen], connection: Connection) -> None:
        self.store.dialect.begin_write(connection.exec_driver_sql)
        self._execute(connection.exec_driver_sql, batch)

    def _execute(self, execute: Callable[..., object], batch: Sequence[Seen]) -> None:
        now = time.monotonic()
        logins = newest(
            replace(login, age_s=age_s) if (age_s := login.age_s + int(now - since)) else login
            for login, since in batch
        )
        done = 0
        while done < len(logins):
            size = largest_size(len(logins) - done)
            self._execute_rows(execute, logins[done : done + size])
            done += size

    def _execute_rows(self, execute: Callable[..., object], logins: Sequence[Login]) -> None:
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
        execute(text, parameters)

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


def largest_size(count: int) -> int:
    """Return how many of *count* logins, at least 1, go into one statement."""
    return max(size for size in _SIZES if size <= count)
