"""Private PostgreSQL servers and streaming standbys."""

import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg2

from .database import Database
from .directories import Template, give, write
from .ports import HOSTS, free_port
from .process import PASSWORD, run, wait_until

# What the harness itself asks carries this application_name, and statements() leaves it out.
_OURSELVES = "harness"

_SETTINGS = {
    "listen_addresses": ",".join(HOSTS),
    # A killed server loses nothing by these: the kernel still has its pages.
    "fsync": "off",
    "full_page_writes": "off",
    "log_statement": "all",
    "log_line_prefix": "%m [%p] %q%u@%d/%a ",
    "log_timezone": "UTC",
    "max_connections": "200",
}

_HBA = """\
local all         all              trust
local replication all              trust
host  all         all 127.0.0.1/32 scram-sha-256
host  all         all ::1/128      scram-sha-256
"""

_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \S+ \[\d+\] (?:\S*?@[^/]*/(.*?) )?([A-Z]+): +(.*)$")
_STATEMENT = re.compile(r"(?:statement|execute [^:]*): (.*)", re.DOTALL)


def _binary(name: str) -> str:
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    newest = max(versions, key=lambda path: float(path.parent.name))
    return str(newest / name)


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _initdb(target: Path) -> None:
    target.mkdir()
    give(target, "postgres", mode=0o700)
    password = write(target.parent / "password", PASSWORD, mode=0o600, owner="postgres")
    run(
        [
            *(_binary("initdb"), "--pgdata", str(target), "--username=postgres"),
            *("--pwfile", str(password), "--auth=scram-sha-256", "--encoding=UTF8"),
            *("--locale=C.UTF-8", "--wal-segsize=1", "--no-sync"),
        ],
        user="postgres",
    )
    with (target / "postgresql.conf").open("a") as configuration:
        configuration.write("include = 'harness.conf'\n")
    write(target / "pg_hba.conf", _HBA, owner="postgres")


_template = Template("postgres", _initdb)


class Postgres(Database):
    """A server that asks for the password by TCP and for nothing on its unix socket."""

    name = "postgres"
    user = "postgres"
    # Fast shutdown; SIGTERM would wait for the clients to leave.
    stop_signal = signal.SIGINT
    scheme = "postgresql"
    superuser = "postgres"

    def __init__(
        self,
        base: Path,
        *,
        settings: Mapping[str, str] = {},
        standby_of: "Postgres | None" = None,
    ) -> None:
        super().__init__(base)
        self.data = self.home / "data"
        self.port = free_port()
        self.socket_dir = self.home
        self._settings = _SETTINGS | dict(settings)
        self._primary = standby_of
        self._mark = 0

    def prepare(self) -> None:
        give(self.home, "postgres", mode=0o755)
        if self._primary is None:
            _template.copy_to(self.data)
        else:
            connection = f"host={self._primary.socket_dir} port={self._primary.port}"
            run(
                [
                    *(_binary("pg_basebackup"), "--pgdata", str(self.data), "--dbname", connection),
                    *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
                ],
                user="postgres",
            )
        own = {"port": str(self.port), "unix_socket_directories": str(self.socket_dir)}
        lines = (f"{key} = {_quoted(value)}\n" for key, value in (self._settings | own).items())
        write(self.data / "harness.conf", "".join(lines), owner="postgres")

    def command(self) -> list[str]:
        return [_binary("postgres"), "-D", str(self.data)]

    def is_ready(self) -> bool:
        try:
            self.sql("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def sql(
        self,
        statement: str,
        database: str = "postgres",
        user: str | None = None,
        password: str | None = None,
    ) -> list[tuple[Any, ...]]:
        """Return the rows of *statement*, committed; without *password*, by the unix socket."""
        connection = psycopg2.connect(
            host=str(self.socket_dir) if password is None else self.host,
            port=self.port,
            dbname=database,
            user=user or self.superuser,
            password=password,
            application_name=_OURSELVES,
            connect_timeout=10,
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def create_database(self, name: str) -> None:
        """Create an empty database, owned by the superuser."""
        self.sql(f'CREATE DATABASE "{name}"')

    def mark(self) -> None:
        """Let statements() begin here."""
        self._mark = len(self.log_text())

    def statements(self) -> list[str]:
        """Return what clients, sql() excepted, had the server execute since mark()."""
        found: list[str] = []
        ours = False
        for line in self.log_text()[self._mark :].splitlines():
            entry = _ENTRY.match(line)
            if entry is None:
                if found and not ours:
                    found[-1] += "\n" + line.removeprefix("\t")
                continue
            ours = True
            application, severity, text = entry.groups()
            statement = _STATEMENT.match(text)
            if severity == "LOG" and statement and application != _OURSELVES:
                ours = False
                found.append(statement[1])
        return found

    def wait_caught_up(self, timeout_s: float = 10) -> None:
        """Return when this standby has replayed all that the primary has committed by now."""
        if self._primary is None:
            raise RuntimeError("not a standby")
        position = self._primary.sql("SELECT pg_current_wal_lsn()")[0][0]
        ask = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        wait_until(lambda: self.sql(ask) == [(True,)], timeout_s, f"replay of {position}")
