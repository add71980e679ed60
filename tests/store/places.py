"""Empty databases for the store's tests, and what the tests do behind the store's back.

One class per database with the same methods, so that every test is written once.
"""

import itertools
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psycopg2
import pymysql
import sqlalchemy as sa

from popbsmtp_wrap.config import Database, Settings
from popbsmtp_wrap.store import setup
from popbsmtp_wrap.store.engine import Store, open_store
from popbsmtp_wrap.store.lookup_query import lookup_query
from tests.harness.directories import public_directory
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres

GRACE_S = 1800
ADDRESS = "198.51.100.7"
OTHER = "2001:db8::7"

# Keeps everybody else from writing, until the transaction or the session ends.
LOCK_TABLE = {
    "sqlite": "SELECT 1",  # BEGIN IMMEDIATE has done it
    "postgresql": "LOCK TABLE popbsmtp IN ACCESS EXCLUSIVE MODE",
    "mysql": "LOCK TABLES popbsmtp WRITE",
}

_numbers = itertools.count(1)


class Place:
    """One empty database of one kind."""

    kind: ClassVar[str]
    database: Database

    def store(self, answer_s: float | None = None, **changes: Any) -> Store:
        """Return the store of the empty database, nothing created."""
        return open_store(replace(self.database, **changes), answer_s)

    def created(self, answer_s: float | None = None, **changes: Any) -> Store:
        """Return the store with its table."""
        store = self.store(answer_s, **changes)
        assert setup.create(store)
        return store

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run *statements* as the owner of everything; return the rows of the last one."""
        with closing(self.session()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            rows = cursor.fetchall() if cursor.description else []
            connection.commit()
            return [tuple(row) for row in rows]

    def script(self, text: str) -> None:
        """Run an SQL script as the owner of everything."""
        without_comments = re.sub(r"--[^\n]*", "", text)
        self.sql(*(part for part in without_comments.split(";") if part.strip()))

    def session(self) -> Any:
        """Return a DB-API connection of the owner of everything."""
        raise NotImplementedError

    def session_in_zone(self, hours_east: int) -> Any:
        """Return such a connection whose session is in another time zone."""
        raise NotImplementedError

    def moment(self, seconds_ago: int) -> str:
        """Return an SQL expression for the last_seen of a login that long ago."""
        raise NotImplementedError

    def epoch(self, column: str = "last_seen") -> str:
        """Return an SQL expression for *column* in Unix seconds."""
        raise NotImplementedError

    def freeze(self, store: Store, now: int) -> Store:
        """Return *store* with a database clock that stands still at *now*."""

        @sa.event.listens_for(store.engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            self.stop_clock(connection, now)

        return store

    def stop_clock(self, connection: Any, now: int) -> None:
        """Let the clock stand still for a DB-API connection."""
        raise NotImplementedError

    def put(self, address: str, seconds_ago: int, table: str = "popbsmtp") -> None:
        """Insert a row without our code."""
        self.sql(
            f"INSERT INTO {table} (address, last_seen)"
            f" VALUES ('{address}', {self.moment(seconds_ago)})"
        )

    def addresses(self, table: str = "popbsmtp") -> list[str]:
        """Return the addresses in the table, read without our code; not those revoked."""
        years_ago = self.moment(10 * 365 * 86400)
        logged_in = f"last_seen IS NULL OR last_seen > {years_ago}"
        query = f"SELECT address FROM {table} WHERE {logged_in} ORDER BY address"
        return [a for (a,) in self.sql(query)]

    def revoked(self) -> list[str]:
        """Return the addresses whose row says that they were revoked, read without our code."""
        years = [self.moment(years * 365 * 86400) for years in (21, 19)]
        query = f"SELECT address FROM popbsmtp WHERE last_seen BETWEEN {years[0]} AND {years[1]}"
        return sorted(a for (a,) in self.sql(query))


class SqlitePlace(Place):
    kind = "sqlite"

    def __init__(self, directory: Path) -> None:
        self.path = directory / f"store{next(_numbers)}.db"
        self.path.touch()
        self.database = Database(url=f"sqlite:///{self.path}", connect_timeout=2)

    def session(self) -> Any:
        return sqlite3.connect(self.path)

    def session_in_zone(self, hours_east: int) -> Any:
        # SQLite knows no zones but that of the process.
        return sqlite3.connect(self.path)

    def moment(self, seconds_ago: int) -> str:
        return f"CAST(strftime('%s', 'now') AS INTEGER) - ({seconds_ago})"

    def epoch(self, column: str = "last_seen") -> str:
        return column

    def stop_clock(self, connection: Any, now: int) -> None:
        connection = getattr(connection, "dbapi_connection", connection)
        connection.create_function("strftime", -1, lambda *_: str(now))


class PostgresPlace(Place):
    kind = "postgresql"

    def __init__(self, server: Postgres, options: str = "") -> None:
        self.server = server
        self.name = f"store{next(_numbers)}"
        if options:
            server.sql(f"CREATE DATABASE {self.name} TEMPLATE template0 {options}")
        else:
            server.create_database(self.name)
        self.database = Database(url=server.url(self.name), connect_timeout=2)

    def script(self, text: str) -> None:
        # The server finds the ends of statements by itself.
        self.sql(text)

    def session(self) -> Any:
        return psycopg2.connect(
            host=str(self.server.socket_dir),
            port=self.server.port,
            dbname=self.name,
            user=self.server.superuser,
            application_name="harness",
        )

    def session_in_zone(self, hours_east: int) -> Any:
        connection = self.session()
        connection.cursor().execute(f"SET TIME ZONE INTERVAL '{hours_east}:00' HOUR TO MINUTE")
        return connection

    def moment(self, seconds_ago: int) -> str:
        return f"now() - interval '{seconds_ago} seconds'"

    def epoch(self, column: str = "last_seen") -> str:
        return f"CAST(floor(extract(epoch FROM {column})) AS bigint)"

    def stop_clock(self, connection: Any, now: int) -> None:
        # Our statements say now(), unqualified; pg_catalog comes last here.
        cursor = connection.cursor()
        cursor.execute(
            "SELECT pg_advisory_xact_lock(1); CREATE SCHEMA IF NOT EXISTS clock;"
            " CREATE OR REPLACE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE"
            " AS 'SELECT to_timestamp(current_setting(''clock.now'')::float8)';"
            " CREATE OR REPLACE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
            " STABLE AS 'SELECT clock.now()';"
            f" SET clock.now = '{now}'; SET search_path = clock, public, pg_catalog"
        )
        connection.commit()


class MariadbPlace(Place):
    kind = "mysql"

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        self.name = f"store{next(_numbers)}"
        server.create_database(self.name)
        # Without TLS: setting it up takes PyMySQL most of a connection's time.
        url = server.url(self.name) + "?ssl_disabled=true"
        self.database = Database(url=url, connect_timeout=2)

    def session(self) -> Any:
        return pymysql.connect(
            host=self.server.host,
            port=self.server.port,
            user=self.server.superuser,
            password=self.server.password,
            database=self.name,
            ssl_disabled=True,
        )

    def session_in_zone(self, hours_east: int) -> Any:
        connection = self.session()
        connection.cursor().execute(f"SET time_zone = '{hours_east:+03d}:00'")
        return connection

    def moment(self, seconds_ago: int) -> str:
        return f"FROM_UNIXTIME(UNIX_TIMESTAMP() - ({seconds_ago}))"

    def epoch(self, column: str = "last_seen") -> str:
        return f"UNIX_TIMESTAMP({column})"

    def stop_clock(self, connection: Any, now: int) -> None:
        connection.cursor().execute(f"SET timestamp = {now}")


class Places:
    """Makes empty databases; the servers start at the first need and are shared by all tests."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._directory: Path | None = None
        self._servers: dict[str, Any] = {}

    @property
    def postgres(self) -> Postgres:
        return self._server("postgresql", lambda: Postgres(self._base))

    @property
    def mariadb(self) -> MariaDB:
        return self._server("mysql", lambda: MariaDB(self._base))

    def new(self, kind: str) -> Place:
        if kind == "postgresql":
            return PostgresPlace(self.postgres)
        if kind == "mysql":
            return MariadbPlace(self.mariadb)
        if self._directory is None:
            self._directory = public_directory()
        return SqlitePlace(self._directory)

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()

    def _server(self, kind: str, make: Callable[[], Any]) -> Any:
        if kind not in self._servers:
            server = make()
            server.start()
            self._servers[kind] = server
        return self._servers[kind]


def lookup_text(settings: Settings, address: str, *, only_ipv4: bool = False) -> str:
    """Return the lookup query as Postfix fills it in."""
    query = lookup_query(settings, only_ipv4=only_ipv4)
    return re.sub("%(.)", lambda found: {"s": address, "%": "%"}[found[1]], query)


def postfix_permits(
    store: Store, address: str, session: Any = None, grace_s: int = GRACE_S
) -> bool:
    """Tell whether the lookup query says OK, in *session* or in one of the store."""
    query = lookup_text(Settings(grace=grace_s, database=store.database), address)
    with closing(session or store.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(query)
        rows = [tuple(row) for row in cursor.fetchall()]
    assert rows in ([], [("OK",)])
    return bool(rows)
