"""Private MariaDB servers and replicas."""

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

from .database import Database
from .directories import give, write
from .mariadb_data import LOG_FILE_SIZE, TEMPLATE
from .ports import HOSTS, free_port
from .process import PASSWORD, wait_until

_SETTINGS: dict[str, str | None] = {
    "bind_address": ",".join(HOSTS),
    "log_bin": "binlog",
    "general_log": "ON",
    "character_set_server": "utf8mb4",
    "innodb_buffer_pool_size": "32M",
    # A killed server loses nothing by these: the kernel still has its pages.
    "innodb_flush_log_at_trx_commit": "2",
    "innodb_doublewrite": "OFF",
    "sync_binlog": "0",
    # The kernel's aio slots are few (fs.aio-max-nr) and shared by all servers.
    "innodb_use_native_aio": "OFF",
    # A replica whose primary comes back asks again after one second instead of 60.
    "slave_net_timeout": "10",
}

_ENTRY = re.compile(r"^(?:\d{6} [ \d]\d:\d\d:\d\d)?\t+ *(\d+) ([A-Z][A-Za-z ]*)\t(.*)$")
_server_ids = itertools.count(1)


class MariaDB(Database):
    """A server with binary log, GTIDs and general log; root has a password everywhere."""

    name = "mariadb"
    user = "mysql"
    scheme = "mysql"
    superuser = "root"

    def __init__(
        self,
        base: Path,
        *,
        settings: Mapping[str, str | None] = {},
        replica_of: "MariaDB | None" = None,
    ) -> None:
        super().__init__(base)
        self.data = self.home / "data"
        self.port = free_port()
        self.socket = self.home / "mysqld.sock"
        self.server_id = next(_server_ids)
        self._settings = settings
        self._primary = replica_of
        self._ours: set[int] = set()
        self._general_log = self.home / "general.log"
        self._mark = 0

    def prepare(self) -> None:
        give(self.home, "mysql", mode=0o755)
        TEMPLATE.copy_to(self.data)
        own = {
            "datadir": str(self.data),
            # Not /tmp: a server that starts removes what looks like temporary tables there.
            "tmpdir": str(self.home),
            "port": str(self.port),
            "socket": str(self.socket),
            "pid_file": str(self.home / "mariadbd.pid"),
            "server_id": str(self.server_id),
            "general_log_file": str(self._general_log),
            "innodb_log_file_size": LOG_FILE_SIZE,
        }
        lines = (
            key if value is None else f"{key} = {value}"
            for key, value in (_SETTINGS | own | dict(self._settings)).items()
        )
        write(self.home / "my.cnf", "\n".join(("[mariadbd]", *lines, "")))

    def command(self) -> list[str]:
        return ["/usr/sbin/mariadbd", f"--defaults-file={self.home / 'my.cnf'}"]

    def is_ready(self) -> bool:
        try:
            self.sql("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    def start(self) -> None:
        """Start as every server does; a replica's first start also begins the replication."""
        super().start()
        if self._primary is not None and not self.replica_status():
            self.sql(
                f"CHANGE MASTER TO master_host = '{self._primary.host}',"
                f" master_port = {self._primary.port}, master_user = 'replica',"
                f" master_password = '{PASSWORD}', master_connect_retry = 1,"
                " master_use_gtid = slave_pos"
            )
            self.sql("START SLAVE")

    def sql(
        self,
        statement: str,
        database: str | None = None,
        user: str | None = None,
        password: str | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return the rows of *statement*, committed; without *user*, as root."""
        connection = self._connect(database, user, password)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        self.sql(f"CREATE DATABASE `{name}`")

    def mark(self) -> None:
        """Let statements() begin here."""
        self._mark = len(self._general_log_text())

    def statements(self) -> list[str]:
        """Return what clients, sql() excepted, had the server execute since mark()."""
        found: list[str] = []
        wanted = False
        for line in self._general_log_text()[self._mark :].splitlines():
            entry = _ENTRY.match(line)
            if entry is None:
                if wanted:
                    found[-1] += "\n" + line
                continue
            wanted = entry[2] in ("Query", "Execute") and int(entry[1]) not in self._ours
            if wanted:
                found.append(entry[3])
        return found

    def replica_status(self) -> dict[str, object]:
        """Return SHOW SLAVE STATUS by column name; empty if this is not a replica."""
        connection = self._connect(None, None, None)
        try:
            with connection.cursor(DictCursor) as cursor:
                cursor.execute("SHOW SLAVE STATUS")
                return cursor.fetchone() or {}
        finally:
            connection.close()

    def wait_caught_up(self, timeout_s: float = 10) -> None:
        """Return when this replica has executed all that the primary has logged by now.

        Raise RuntimeError if the replication has stopped on an error.
        """
        if self._primary is None:
            raise RuntimeError("not a replica")
        position = self._primary.sql("SELECT @@gtid_binlog_pos")[0][0]

        def caught_up() -> bool:
            status = self.replica_status()
            # "Connecting" is no end: the primary may have been started again just now.
            if "No" in (status["Slave_IO_Running"], status["Slave_SQL_Running"]):
                errors = (status["Last_SQL_Error"], status["Last_IO_Error"])
                raise RuntimeError(f"replication stopped: {errors}")
            return self.sql("SELECT @@gtid_slave_pos") == [(position,)]

        wait_until(caught_up, timeout_s, f"replica at {position}")

    def _general_log_text(self) -> str:
        path = self._general_log
        return path.read_text(errors="replace") if path.exists() else ""

    def _connect(
        self, database: str | None, user: str | None, password: str | None
    ) -> "pymysql.Connection[Any]":
        if user is None:
            user, password = self.superuser, self.password
        connection = pymysql.connect(
            host=self.host,
            port=self.port,
            user=user,
            password=password or "",
            database=database,
            autocommit=True,
            connect_timeout=10,
            read_timeout=60,
            ssl_disabled=True,
        )
        # The stubs leave thread_id() untyped.
        self._ours.add(connection.thread_id())  # type: ignore[no-untyped-call]
        return connection
