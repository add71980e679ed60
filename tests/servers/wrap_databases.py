"""The wrapper with a store on a database server that fails on command."""

import contextlib
import shutil
import sqlite3
import subprocess

from tests.harness.directories import public_directory
from tests.harness.faults import TcpProxy
from tests.servers.wrap_fixtures import POPBSMTP, Place, end_recorders, launcher


class ServerPlace:
    """A store on a database server behind a proxy, with its configuration."""

    def __init__(self, server, proxy):
        self.server = server
        self.proxy = proxy
        self.config = public_directory() / "popbsmtp.toml"
        # Missing, unless a test makes it.
        self.spool = self.config.parent / "spool"
        self.configure()
        server.create_database("mail")
        subprocess.run([POPBSMTP, "-c", self.config, "init"], check=True, capture_output=True)

    def configure(self, password="", extra="", database="mail", text="", linger="0"):
        """Write the configuration: *extra* goes into [database], *text* into [recorder]."""
        url = self.server.url(database, self.server.superuser, password or self.server.password)
        url = url.replace(f":{self.server.port}/", f":{self.proxy.port}/")
        self.config.write_text(
            f'[database]\nurl = "{url}"\n{extra}\n'
            "[ignore]\npostfix_mynetworks = false\nown_addresses = false\n"
            f'[wrapper]\nlinger = "{linger}"\n[recorder]\nspool = "{self.spool}"\n{text}\n'
        )
        self.config.chmod(0o640)

    def command(self, *arguments, wait="30"):
        options = ["--wait", wait] if wait else []
        return [launcher(), "--config", str(self.config), *options, *arguments]

    def rows(self):
        rows = self.server.sql("SELECT address, username, service FROM popbsmtp", "mail")
        return [tuple(row) for row in rows]

    def last_seen(self):
        """Return the time of the only row."""
        epoch = {
            "postgresql": "extract(epoch FROM last_seen)",
            "mysql": "unix_timestamp(last_seen)",
        }
        query = f"SELECT {epoch[self.server.scheme]} FROM popbsmtp"
        ((seen,),) = self.server.sql(query, "mail")
        return seen

    @contextlib.contextmanager
    def down(self, how):
        """Let the database refuse, hang or stop."""
        if how == "stop":
            self.server.pause()
        else:
            self.proxy.mode = how
        try:
            yield
        finally:
            if how == "stop":
                self.server.resume()
            self.proxy.mode = "pass"


class FilePlace(Place):
    """A store on SQLite that fails on command, with a spool of its own."""

    @property
    def spool(self):
        """Missing, unless a test makes it."""
        return self.base / "spool"

    def configure(self, text="", url=None, database=""):
        """Write the configuration: *database* goes into that section, *text* into [recorder]."""
        super().configure(f'[recorder]\nspool = "{self.spool}"\n{text}', url, database)

    def last_seen(self):
        """Return the time of the only row."""
        ((seen,),) = self.query("SELECT last_seen FROM popbsmtp")
        return seen

    @contextlib.contextmanager
    def down(self, how):
        """Let the file be locked (hang) or out of reach (refuse)."""
        directory, hidden = self.database.parent, self.base / "hidden"
        connection = sqlite3.connect(self.database, isolation_level=None)
        if how == "hang":
            connection.execute("BEGIN EXCLUSIVE")
        else:
            directory.rename(hidden)
        try:
            yield
        finally:
            connection.close()
            if how != "hang":
                hidden.rename(directory)


def started(kind):
    with (
        kind(public_directory()) as server,
        TcpProxy(server.host, server.port) as proxy,
    ):
        yield ServerPlace(server, proxy)


def cleaned(shared):
    end_recorders(shared.config)
    shared.proxy.mode = "pass"
    shutil.rmtree(shared.spool, ignore_errors=True)
    shared.configure()
    shared.server.sql("DELETE FROM popbsmtp", "mail")
    yield shared
    end_recorders(shared.config)
