"""Open the store: one engine, its table, and errors that say what to do."""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, QueuePool

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.config.database_url import Endpoint, read_url
from popbsmtp_wrap.config.passwords import masked, read_password
from popbsmtp_wrap.errors import (
    ConfigError,
    FileReplacedError,
    LockedError,
    PopbsmtpError,
    StoreUnavailableError,
)
from popbsmtp_wrap.store.dialects import Dialect, dialect_named
from popbsmtp_wrap.store.schema import build_table
from popbsmtp_wrap.store.timeouts import BOUNDED, bound_waits

Result = TypeVar("Result")

_ATTEMPTS = 5
_SHORT_PASSWORD = 4


@dataclass(frozen=True)
class Store:
    """The one table and the way to it. Safe to share between threads; connections are not.

    With *autocommit* each statement is a transaction of its own.
    """

    engine: Engine
    table: sa.Table
    dialect: Dialect
    database: Database
    answer_s: float
    autocommit: bool = False

    @property
    def address(self) -> Any:
        """The address column."""
        return self.table.c[self.database.address_column]

    @property
    def last_seen(self) -> Any:
        """The last_seen column."""
        return self.table.c[self.database.last_seen_column]


def open_store(
    database: Database,
    answer_s: float | None = None,
    *,
    stay_connected: bool = False,
    autocommit: bool = False,
) -> Store:
    """Return the store that *database* describes; nothing is connected yet.

    Every answer of the database is waited for *answer_s* seconds, by default as long as for a
    connection. With *stay_connected* a connection is kept for the next transaction, and with
    *autocommit* each statement is one where the database permits. Raise ConfigError for a URL,
    driver or password file that cannot work.
    """
    dialect = dialect_named(database.dialect)
    answer_s = answer_s or database.connect_timeout
    url = database_url(database, dialect)
    arguments = dialect.connect_arguments(url, database.connect_timeout, answer_s)
    autocommit = autocommit and dialect.can_autocommit
    more = {"isolation_level": "AUTOCOMMIT"} if autocommit else {}
    try:
        engine = sa.create_engine(
            dialect.adapt_url(url),
            connect_args=arguments,
            poolclass=QueuePool if stay_connected else NullPool,
            # Parameters hold user names; an error message is for the mail log.
            hide_parameters=True,
            **more,
        )
    except (ArgumentError, NoSuchModuleError, ImportError, TypeError, ValueError) as error:
        raise ConfigError(f"database.url {masked(database.url)}: {error}") from None
    dialect.prepare(engine)
    places = endpoints_of(database)
    if len(places) > 1 and engine.dialect.driver not in BOUNDED:
        raise ConfigError(
            f"database.url {masked(database.url)}: several hosts need the driver {dialect.driver}"
        )
    places = places if len(places) > 1 else ()
    bound_waits(engine, database.connect_timeout, answer_s, masked(database.url), places)
    return Store(engine, build_table(database, dialect), dialect, database, answer_s, autocommit)


def endpoints_of(database: Database) -> tuple[Endpoint, ...]:
    """Return where the database listens, in the URL's order; () where the driver decides."""
    if database.dialect == "sqlite":
        return ()
    url = read_url(database.url)
    if not url.places and url.port:
        return (Endpoint(port=url.port),)
    return tuple(replace(place, port=place.port or url.port) for place in url.places)


def database_url(database: Database, dialect: Dialect) -> URL:
    """Return the URL with driver and password filled in, and of several places the first one."""
    try:
        if database.dialect == "sqlite":
            url = make_url(database.url)
        else:
            read = read_url(database.url)
            url = URL.create(
                read.driver,
                username=read.user or None,
                password=read.password or None,
                database=read.database,
                query=read.options,
            )
            url = dialect.at_place(url, *endpoints_of(database)[:1])
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"database.url {masked(database.url)}: {error}") from None
    if "+" not in url.drivername:
        url = url.set(drivername=f"{url.drivername}+{dialect.driver}")
    if database.password_file:
        url = url.set(password=read_password(database.password_file))
    return url


@contextmanager
def _begin(store: Store) -> Iterator[Connection]:
    """Give a connection whose work is committed at the end.

    Raise the driver's errors, and FileReplacedError when it was committed to the wrong file.
    """
    with store.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        try:
            with connection.begin():
                yield connection
            store.dialect.check_in_place(driver)
        except FileReplacedError:
            # The pool has no use for it.
            connection.invalidate()
            raise


@contextmanager
def transaction(store: Store) -> Iterator[Connection]:
    """Give a connection whose work is committed at the end, with errors of errors.py."""
    try:
        with _begin(store) as connection:
            yield connection
    except DBAPIError as error:
        raise explained(store, error) from error


def explained(store: Store, error: DBAPIError) -> PopbsmtpError:
    """Return *error* as one of ours: what, where, what to do; never a password."""
    trouble = store.dialect.classify(error, store.database)
    text = " ".join(store.dialect.reason(error).split()) or type(error.orig).__name__
    text = _without(text, str(store.engine.url.password or ""))
    return trouble.kind(f"{masked(store.database.url)}: {text[:500]}; {trouble.advice}")


def is_ambiguous(store: Store, error: PopbsmtpError) -> bool:
    """Tell whether *error*, raised for many rows, may be that of a trigger or policy for one."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and store.dialect.classify(cause, store.database).ambiguous


def _without(text: str, password: str) -> str:
    """Return *text* with *** for *password*.

    A very short one is hidden only where it stands as a value: elsewhere it is part of a word.
    """
    found = re.escape(password)
    if not password:
        return text
    if len(password) < _SHORT_PASSWORD:
        found = rf"(?<=[\"'=:]){found}(?=[\"'@\s]|$)"
    return re.sub(found, "***", text)


def retrying(
    store: Store,
    work: Callable[[Connection], Result],
    patience_s: float = 5.0,
    begin: Callable[[], AbstractContextManager[Connection]] | None = None,
    *,
    wait_for_locks: bool = True,
) -> Result:
    """Return what *work* gives in a transaction of its own, or in what *begin* gives instead.

    Deadlocks, lock time-outs (with *wait_for_locks*) and lost connections are tried again with
    jitter, a few times, within *patience_s* seconds; so is, at once, what went into a file that was
    replaced. Raise a PopbsmtpError otherwise: after an attempt that took as long as an answer may
    take, so that a server that hangs is waited for once.
    """
    begin = begin or partial(_begin, store)
    deadline = time.monotonic() + min(patience_s, store.answer_s)
    attempt = 0
    while True:
        attempt += 1
        connected = False
        try:
            with begin() as connection:
                connected = True
                return work(connection)
        except FileReplacedError:
            # Nothing is in the way of the new file, so there is nothing to wait for.
            if attempt == _ATTEMPTS or time.monotonic() > deadline:
                raise
        except DBAPIError as error:
            trouble = store.dialect.classify(error, store.database)
            # A server that does not let us in is as good as down.
            transient = connected and trouble.again
            if issubclass(trouble.kind, LockedError) and not wait_for_locks:
                transient = False
            pause_s = random.uniform(0.5, 1.5) * 0.02 * 2**attempt  # noqa: S311 - jitter
            if not transient or attempt == _ATTEMPTS or time.monotonic() + pause_s > deadline:
                raise explained(store, error) from error
            time.sleep(pause_s)


def ping(store: Store) -> None:
    """Raise StoreUnavailableError (or RefusedError, SchemaError) unless the database answers."""
    with transaction(store) as connection:
        if connection.execute(sa.select(sa.literal(1))).scalar() != 1:
            raise StoreUnavailableError(f"{masked(store.database.url)}: no answer")
