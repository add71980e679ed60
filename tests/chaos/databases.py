"""The databases as a run of faults treats them; what differs between them is declared here."""

import sqlite3
import subprocess
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import psycopg2
import pymysql

from tests.chaos.model import Row
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres

KINDS = ("sqlite", "postgresql", "mariadb")
_NAME = "mail"


class Target(ABC):
    """One database with our table in it, and how to hurt it."""

    kind: ClassVar[str]
    url: str
    epoch: ClassVar[str]

    @abstractmethod
    def session(self) -> Any:
        """Return a DB-API connection of the owner of everything."""

    @abstractmethod
    def lock_row(self, connection: Any, address: str) -> None:
        """Lock the row of *address* in the transaction of *connection*."""

    @abstractmethod
    def lock_table(self, connection: Any) -> None:
        """Let nobody else write to the table while the transaction of *connection* lasts."""

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run *statements* and commit; return the rows of the last one."""
        with closing(self.session()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            found = cursor.fetchall() if cursor.description else []
            connection.commit()
            return [tuple(row) for row in found]

    def rows(self) -> list[Row]:
        """Return the whole table."""
        query = f"SELECT address, {self.epoch}, username FROM popbsmtp"
        return [Row(address, float(seen), user) for address, seen, user in self.sql(query)]

    def has(self, address: str) -> bool:
        """Tell whether *address* has a row."""
        return bool(self.sql(f"SELECT 1 FROM popbsmtp WHERE address = '{address}'"))

    def truncate(self) -> None:
        """Lose all rows, as a fail-over to a standby that was far behind does."""
        self.sql("DELETE FROM popbsmtp")

    @abstractmethod
    def kill_or_hold(self) -> None:
        """Take nothing any more: be killed, or locked where there is no server."""

    @abstractmethod
    def start_or_release(self) -> None:
        """Undo kill_or_hold(), and stop()."""

    @abstractmethod
    def stop(self) -> None:
        """Go away in order."""

    @abstractmethod
    def pause(self) -> None:
        """Hang: accept connections, answer nobody."""

    @abstractmethod
    def resume(self) -> None:
        """Undo pause()."""


class Sqlite(Target):
    kind = "sqlite"
    epoch = "last_seen"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite:///{path}"
        self._hold: sqlite3.Connection | None = None

    def session(self) -> Any:
        return sqlite3.connect(self.path, timeout=20, check_same_thread=False)

    def lock_row(self, connection: Any, address: str) -> None:
        connection.execute("BEGIN IMMEDIATE")

    def lock_table(self, connection: Any) -> None:
        connection.execute("BEGIN IMMEDIATE")

    def stop(self) -> None:
        self.resume()

    def kill_or_hold(self) -> None:
        self.pause()

    def start_or_release(self) -> None:
        self.resume()

    def pause(self) -> None:
        if self._hold is not None:
            return
        hold = sqlite3.connect(self.path, isolation_level=None, timeout=20, check_same_thread=False)
        try:
            hold.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            # Another fault has it locked, which is the same to the recorder.
            hold.close()
        else:
            self._hold = hold

    def resume(self) -> None:
        if self._hold is not None:
            self._hold.close()
            self._hold = None

    def files(self) -> list[Path]:
        """Return the database with its journals."""
        return sorted(self.path.parent.glob(self.path.name + "*"))


class _Served(Target):
    server: Postgres | MariaDB

    def start_or_release(self) -> None:
        if not self.server.running:
            self.server.kill()
            self.server.start()

    def stop(self) -> None:
        self.server.stop()

    def kill_or_hold(self) -> None:
        self.server.kill()

    def pause(self) -> None:
        # Another fault may have it down.
        if self.server.running:
            self.server.pause()

    def resume(self) -> None:
        if self.server.running:
            self.server.resume()


class Postgresql(_Served):
    kind = "postgresql"
    epoch = "extract(epoch FROM last_seen)"

    def __init__(self, server: Postgres) -> None:
        self.server = server
        server.create_database(_NAME)
        self.url = server.url(_NAME)

    def session(self) -> Any:
        return psycopg2.connect(
            host=str(self.server.socket_dir),
            port=self.server.port,
            dbname=_NAME,
            user=self.server.superuser,
            connect_timeout=10,
        )

    def lock_row(self, connection: Any, address: str) -> None:
        connection.cursor().execute(
            f"SELECT * FROM popbsmtp WHERE address = '{address}' FOR UPDATE"
        )

    def lock_table(self, connection: Any) -> None:
        connection.cursor().execute("LOCK TABLE popbsmtp IN EXCLUSIVE MODE")

    def kill_sessions(self) -> None:
        """End every connection but this one."""
        self.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = '{_NAME}' AND pid <> pg_backend_pid()"
        )


class Mariadb(_Served):
    kind = "mariadb"
    epoch = "UNIX_TIMESTAMP(last_seen)"

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        server.create_database(_NAME)
        self.url = server.url(_NAME) + "?ssl_disabled=true"

    def session(self) -> Any:
        return pymysql.connect(
            host=self.server.host,
            port=self.server.port,
            user=self.server.superuser,
            password=self.server.password,
            database=_NAME,
            connect_timeout=10,
            read_timeout=60,
            ssl_disabled=True,
        )

    def lock_row(self, connection: Any, address: str) -> None:
        connection.cursor().execute(
            f"SELECT * FROM popbsmtp WHERE address = '{address}' FOR UPDATE"
        )

    def lock_table(self, connection: Any) -> None:
        connection.cursor().execute("LOCK TABLES popbsmtp READ")

    def kill_sessions(self) -> None:
        """End every connection but this one."""
        for (number,) in self.sql(
            "SELECT id FROM information_schema.processlist"
            f" WHERE db = '{_NAME}' AND id <> CONNECTION_ID()"
        ):
            try:
                self.sql(f"KILL {number}")
            except pymysql.Error:
                continue  # it has gone meanwhile


def make(kind: str, base: Path) -> Target:
    """Return a running database of *kind* without a table; its files are below *base*."""
    if kind == "sqlite":
        folder = base / "store"
        folder.mkdir()
        mount(folder)
        return Sqlite(folder / "popbsmtp.db")
    server = Postgres(base) if kind == "postgresql" else MariaDB(base)
    server.start()
    return Postgresql(server) if isinstance(server, Postgres) else Mariadb(server)


def mount(folder: Path, mode: str = "0755", megabytes: int = 8) -> None:
    """Give *folder* a small disk of its own, in this process's mount namespace."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode={mode}", "chaos", str(folder)],
        check=True,
    )
