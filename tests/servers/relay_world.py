"""A database, Dovecot and Postfix, set up by the toolkit alone; made at the first need.

Every test run has one World per database; lifetime.py ends its servers.
"""

import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.harness.directories import public_directory, write
from tests.harness.dovecot import Dovecot
from tests.harness.mariadb import MariaDB
from tests.harness.postfix import Postfix
from tests.harness.postgres import Postgres

POPBSMTP = str(Path(sys.executable).with_name("popbsmtp"))
KINDS = ["pgsql", "mysql", "sqlite"]
READER_PASSWORD = "it's a $secret, #1 \\ %s"
MINUTE_S = 60


@dataclass(frozen=True)
class Relay:
    """A Postfix with the generated map, and the world that it looks into."""

    world: "World"
    postfix: Postfix
    directory: Path

    @property
    def port(self) -> int:
        """The port of smtpd."""
        return self.postfix.port


class World:
    """An empty store of one kind; the subclasses know its SQL."""

    kind: str
    # How [postfix] hosts name the server, by the name of the way.
    ways: dict[str, str]
    # What Postfix has instead of the writer's account.
    account = ""

    def __init__(self) -> None:
        self.home = public_directory()
        self.config = self.home / "popbsmtp.toml"

    def url(self) -> str:
        """Return the database URL of the writer."""
        raise NotImplementedError

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run *statement* as the owner of everything."""
        raise NotImplementedError

    def moment(self, age_s: int) -> str:
        """Return SQL for the time *age_s* seconds ago."""
        raise NotImplementedError

    def mark(self) -> None:
        """Let lookups() begin here."""
        raise NotImplementedError

    def lookups(self) -> list[str]:
        """Return the lookups since mark(), from the server's log."""
        raise NotImplementedError

    def plant(self, key: str, age_s: int = 0) -> None:
        """Write a row, behind the toolkit's back."""
        self.sql(f"DELETE FROM popbsmtp WHERE address = '{key}'")
        self.sql(
            "INSERT INTO popbsmtp (address, last_seen, first_seen)"
            f" VALUES ('{key}', {self.moment(age_s)}, {self.moment(age_s)})"
        )

    def clear(self) -> None:
        """Forget all rows."""
        self.sql("DELETE FROM popbsmtp")

    def write_config(self, path: Path, hosts: list[str] | None = None) -> Path:
        """Write a configuration, readable for the wrapper, which Dovecot's user runs."""
        # The row is there when the mailbox opens, if the machine is given the time for it.
        text = f'[database]\nurl = "{self.url()}"\n\n[wrapper]\nwait = "30s"\n\n'
        # Tests delete rows, and what a recorder remembers it writes again a second later.
        text += '[recorder]\nrefresh = "0"\n\n'
        text += f"[postfix]\n{self.account}"
        if hosts:
            text += f"hosts = {hosts!r}\n".replace("'", '"')
        return write(path, text, mode=0o640, owner="root:dovecot")

    def popbsmtp(self, *arguments: str, config: Path | None = None) -> str:
        """Return the output of a command of the toolkit, which has to succeed."""
        done = subprocess.run(
            [POPBSMTP, "-c", str(config or self.config), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def set_up(self) -> None:
        """Create the table and Postfix's account."""
        self.write_config(self.config)
        self.popbsmtp("init")

    def relay(
        self,
        way: str = "",
        *,
        chroot: bool = False,
        version: str = "",
        hosts: list[str] | None = None,
        main_cf: str = "",
    ) -> Relay:
        """Return a running Postfix with the generated files and lines, *main_cf* before them."""
        place = self.home / f"etc-{len(list(self.home.iterdir()))}"
        place.mkdir()
        named = hosts or ([self.ways[way]] if way else None)
        config = self.write_config(place / "popbsmtp.toml", named)
        versions = ["--for", version] if version else []
        lines = self.popbsmtp("postfix", "--output", str(place), *versions, config=config)
        postfix = Postfix(self.home, main_cf=main_cf + lines, chroot=chroot)
        postfix.start()
        return Relay(self, postfix, place)

    @cache  # noqa: B019 - worlds live as long as the run
    def shared_relay(self, way: str, chroot: bool) -> Relay:
        """Return the one such Postfix; tests must leave its world working."""
        return self.relay(way, chroot=chroot)

    @property
    @cache  # noqa: B019 - worlds live as long as the run
    def dovecot(self) -> Dovecot:
        """A Dovecot with exactly what the toolkit prints."""
        printed = self.popbsmtp("dovecot", "--for", "2.3")
        dovecot = Dovecot(self.home, postlogin=printed)
        dovecot.start()
        return dovecot


class PgsqlWorld(World):
    kind = "pgsql"

    def __init__(self) -> None:
        super().__init__()
        self.server = Postgres(self.home)
        self.server.start()
        self.server.create_database("mail")
        self.ways = {
            "tcp": f"{self.server.host}:{self.server.port}",
            "socket": f"unix:{self.server.socket_dir}",
            "ipv6": f"[::1]:{self.server.port}",
        }
        secret = write(self.home / "reader.password", f"{READER_PASSWORD}\n", mode=0o600)
        self.account = f'user = "reader"\npassword_file = "{secret}"\n'

    def set_up(self) -> None:
        super().set_up()
        doubled = READER_PASSWORD.replace("'", "''")
        self.sql(f"CREATE ROLE reader LOGIN PASSWORD '{doubled}'")
        self.sql("GRANT SELECT ON popbsmtp TO reader")

    def url(self) -> str:
        return self.server.url("mail")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.sql(statement, "mail")

    def moment(self, age_s: int) -> str:
        return f"now() - interval '{age_s} seconds'"

    def mark(self) -> None:
        self.server.mark()

    def lookups(self) -> list[str]:
        return [s for s in self.server.statements() if s.startswith("SELECT 'OK'")]


class MysqlWorld(World):
    kind = "mysql"

    def __init__(self) -> None:
        super().__init__()
        self.server = MariaDB(self.home)
        self.server.start()
        self.server.create_database("mail")
        self.ways = {
            "tcp": f"{self.server.host}:{self.server.port}",
            "socket": f"unix:{self.server.socket}",
            "ipv6": f"[::1]:{self.server.port}",
        }
        secret = write(self.home / "reader.password", f"{READER_PASSWORD}\n", mode=0o600)
        self.account = f'user = "reader"\npassword_file = "{secret}"\n'

    def set_up(self) -> None:
        super().set_up()
        escaped = READER_PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
        for host in ("localhost", "127.0.0.1", "::1"):
            self.sql(f"CREATE USER 'reader'@'{host}' IDENTIFIED BY '{escaped}'")
            self.sql(f"GRANT SELECT ON mail.popbsmtp TO 'reader'@'{host}'")

    def url(self) -> str:
        return self.server.url("mail")

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.server.sql(statement, "mail")

    def moment(self, age_s: int) -> str:
        return f"FROM_UNIXTIME(UNIX_TIMESTAMP() - ({age_s}))"

    def mark(self) -> None:
        self.server.mark()

    def lookups(self) -> list[str]:
        return [s for s in self.server.statements() if s.startswith("SELECT 'OK'")]


class SqliteWorld(World):
    kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.ways = {"file": ""}

    @property
    def path(self) -> Path:
        """The database, in a directory that `popbsmtp init` creates."""
        return self.home / "store" / "popbsmtp.db"

    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def relay(self, way: str = "", **options: Any) -> Relay:
        return super().relay("", **options)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            return connection.execute(statement).fetchall()

    def moment(self, age_s: int) -> str:
        return f"CAST(strftime('%s', 'now') AS INTEGER) - ({age_s})"


WORLDS: dict[str, type[World]] = {w.kind: w for w in (PgsqlWorld, MysqlWorld, SqliteWorld)}
WAYS = [
    *(("pgsql", "tcp"), ("pgsql", "socket"), ("mysql", "tcp"), ("mysql", "socket")),
    ("sqlite", "file"),
]


def new_world(kind: str) -> World:
    """Return a world of one's own, to be broken at will."""
    world = WORLDS[kind]()
    world.set_up()
    return world


@cache
def shared_world(kind: str) -> World:
    """Return the one world of *kind*; tests leave it running and its table in order."""
    return new_world(kind)
