"""Private database servers as Debian sets them up, and empty databases with a configuration.

The test harness trades durability for speed and logs every statement; neither is wanted here.
"""

import itertools
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self
from urllib.parse import quote

import psycopg2
import psycopg2.extensions
import pymysql

from popbsmtp_wrap.config import Settings, load
from popbsmtp_wrap.store import setup, sqlite_files
from popbsmtp_wrap.store.engine import Store, open_store
from tests.harness.directories import public_directory, write
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.harness.process import Server

_POSTGRES = {
    "fsync": "on",
    "full_page_writes": "on",
    "log_statement": "none",
    # initdb's values for segments of 16 MB; the harness has segments of 1 MB.
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
}
_MARIADB = {
    "skip_log_bin": None,
    "general_log": "OFF",
    "innodb_buffer_pool_size": "128M",
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_doublewrite": "ON",
    "innodb_log_file_size": "96M",
}
KINDS = ("sqlite", "mariadb", "postgresql")
TITLES = {
    "sqlite": "SQLite",
    "mariadb": "MariaDB",
    "mariadb-socket": "MariaDB, unix socket",
    "postgresql": "PostgreSQL",
}


@dataclass(frozen=True)
class Place:
    """An empty database with its table: its configuration file, and a bare connection to it."""

    kind: str
    name: str
    conf: str
    connect: Callable[..., Any]

    @property
    def settings(self) -> Settings:
        """What the configuration file says."""
        return load(self.conf)

    def store(self) -> Store:
        """Return the store, not connected."""
        return open_store(self.settings.database)

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Return the rows of the last of *statements*, all committed."""
        connection = self.connect()
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            rows = list(cursor.fetchall()) if cursor.description else []
            connection.commit()
        finally:
            connection.close()
        return rows

    def count(self, table: str = "popbsmtp") -> int:
        """Return the number of rows."""
        return int(self.sql(f"SELECT count(*) FROM {table}")[0][0])


class Servers:
    """PostgreSQL and MariaDB, started at the first need; a context manager."""

    def __init__(self) -> None:
        self.base = public_directory()
        self._started: list[Server] = []
        self._numbers = itertools.count(1)

    @cached_property
    def postgres(self) -> Postgres:
        """A running PostgreSQL."""
        server = Postgres(self.base, settings=_POSTGRES)
        self.start(server)
        return server

    @cached_property
    def mariadb(self) -> MariaDB:
        """A running MariaDB."""
        server = MariaDB(self.base, settings=_MARIADB)
        self.start(server)
        return server

    def start(self, server: Server) -> None:
        """Start any server; it stops with the others."""
        server.start()
        self._started.append(server)

    def place(self, kind: str) -> Place:
        """Return a new database of *kind* (a key of TITLES) with our table."""
        name = f"bench{next(self._numbers)}"
        connect: Callable[..., Any]
        if kind == "sqlite":
            path = self.base / name / "popbsmtp.db"
            url = f"sqlite:///{path}"
            connect = lambda: sqlite3.connect(path, timeout=30)  # noqa: E731 - one per kind
        elif kind == "postgresql":
            self.postgres.create_database(name)
            url = self.postgres.url(name)
            connect = lambda: _plain_postgres(url)  # noqa: E731
        else:
            self.mariadb.create_database(name)
            url = self.mariadb.url(name)
            where: dict[str, Any] = {"host": self.mariadb.host, "port": self.mariadb.port}
            if kind == "mariadb-socket":
                where = {"unix_socket": str(self.mariadb.socket)}
                url = url.replace(f"{self.mariadb.host}:{self.mariadb.port}", "localhost")
                url += f"?unix_socket={quote(str(self.mariadb.socket))}"
            where |= {"user": self.mariadb.superuser, "password": self.mariadb.password}
            connect = lambda **more: pymysql.connect(**where, database=name, **more)  # noqa: E731
        # As an administrator would: a password, so not for everyone; readable for the wrapper.
        text = f'[database]\nurl = "{url}"\n'
        conf = write(self.base / f"{name}.toml", text, mode=0o640, owner="root:dovecot")
        place = Place(kind, name, str(conf), connect)
        if kind == "sqlite":
            sqlite_files.prepare(place.settings.database)
        setup.create(place.store())
        return place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for server in reversed(self._started):
            server.stop()


def _plain_postgres(url: str) -> Any:
    # Without the callback that the store sets for the whole process (store/timeouts.py).
    psycopg2.extensions.set_wait_callback(None)
    return psycopg2.connect(url)
