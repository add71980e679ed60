"""A running `popbsmtp serve` in a private directory, and who talks to it."""

import contextlib
import json
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from popbsmtp_wrap.client import administration
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.wire import format_request, parse_answer
from tests.harness.directories import give, public_directory, write
from tests.harness.process import Server, wait_until
from tests.servers.wrap_fixtures import POPBSMTP

SERVICES = ("imap", "pop3")
# Beyond every time-out of the recorder, on a machine that does other things.
PATIENCE_S = 40.0
# Where packages have the sockets.
POST_LOGIN = """\
[[recorder.postlogin]]
path = "/run/popbsmtp/imap-postlogin"
service = "imap"
[[recorder.postlogin]]
path = "/run/popbsmtp/pop3-postlogin"
service = "pop3"
"""
_FIELD = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)')


class Recorder(Server):
    """`popbsmtp serve` with a socket for the wrapper and post-login sockets for imap and pop3.

    Everything is below *home*: popbsmtp.toml, run/login.sock, run/imap-postlogin,
    run/pop3-postlogin, spool/ and, unless *url* names another database, store/popbsmtp.db. Nothing
    is there before start() or prepare(); start() returns when the recorder answers. After stop()
    or kill(), start() goes on with the same files and the same log.

    *url* is the database's URL. *top*, *database*, *ignore*, *recorder* and *sessions* are lines
    for these parts of popbsmtp.toml. The process starts as *user*; where root starts it, it goes on
    as *becomes*.
    """

    name = "recorder"

    def __init__(
        self,
        base: Path | None = None,
        *,
        url: str = "",
        top: str = "",
        database: str = "",
        ignore: str = "",
        recorder: str = "",
        sessions: str = "renew = 0",
        user: str = "root",
        becomes: str = "",
    ) -> None:
        super().__init__(base or public_directory())
        self.user = user
        self.becomes = becomes
        self.owner = becomes or user
        self.config = self.home / "popbsmtp.toml"
        self.run_directory = self.home / "run"
        self.socket = self.run_directory / "login.sock"
        self.postlogin = {name: self.run_directory / f"{name}-postlogin" for name in SERVICES}
        self.spool = self.home / "spool"
        self.store = self.home / "store" / "popbsmtp.db"
        self.url = url or f"sqlite:///{self.store}"
        self.exit_status: int | None = None
        self._parts = {
            "top": top,
            "database": database,
            "ignore": ignore,
            "recorder": recorder,
            "sessions": sessions,
        }
        self.configure()

    def configure(self, *, url: str = "", **parts: str) -> None:
        """Write popbsmtp.toml with other parts of these names; hup() has it read."""
        self.url = url or self.url
        self._parts |= parts
        tables = "".join(
            f'[[recorder.postlogin]]\npath = "{path}"\nservice = "{service}"\n'
            for service, path in self.postlogin.items()
        )
        write(
            self.config,
            f"{self._parts['top']}\n"
            f'[database]\nurl = "{self.url}"\n{self._parts["database"]}\n'
            "[ignore]\npostfix_mynetworks = false\nown_addresses = false\n"
            f"{self._parts['ignore']}\n"
            f'[recorder]\nsocket = "{self.socket}"\nspool = "{self.spool}"\n'
            f'user = "{self.becomes}"\n{self._parts["recorder"]}\n'
            f"{tables}[sessions]\n{self._parts['sessions']}\n",
            # It may hold a password.
            mode=0o640,
            owner=f"root:{self._group()}",
        )

    def prepare(self) -> None:
        """Create directories and the table, as whom it runs as needs them; start() does, too."""
        self._prepared = True
        directories = [self.run_directory, self.spool]
        if self.url.startswith("sqlite:"):
            directories.append(self.store.parent)
        for directory in directories:
            directory.mkdir(exist_ok=True)
            give(directory, self.owner, mode=0o700 if directory == self.spool else 0o755)
        done = self.toolkit("init")
        assert done.returncode == 0, done.stderr
        if self.store.exists():
            for path in self.store.parent.iterdir():
                shutil.chown(path, self.owner)

    def command(self) -> list[str]:
        return [POPBSMTP, "-c", str(self.config), "serve"]

    def is_ready(self) -> bool:
        try:
            administration.ask_status(str(self.socket))
        except PopbsmtpError:
            return False
        return True

    def wait_for_end(self) -> None:
        super().wait_for_end()
        assert self._process is not None
        self.exit_status = self._process.returncode

    def hup(self) -> dict[str, str]:
        """Have popbsmtp.toml read again; return the event, reloaded or reload_failed."""
        before = len(self._reloads())
        self.send_signal(signal.SIGHUP)
        wait_until(lambda: len(self._reloads()) > before, PATIENCE_S, "the end of a reload")
        return self._reloads()[before]

    def toolkit(
        self, *arguments: str, before: Iterable[str] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Return how `popbsmtp ARGUMENTS` with this configuration ended, started by *before*."""
        words = [*before, POPBSMTP, "-c", str(self.config), *arguments]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, **options)

    def status(self) -> dict[str, Any]:
        """Return what the recorder says of itself."""
        found: dict[str, Any] = json.loads(administration.ask_status(str(self.socket)))
        return found

    def rows(self) -> dict[str, str | None]:
        """Return the user of each address in the table."""
        listed = self.toolkit("list", "--json")
        assert listed.returncode == 0, listed.stderr
        return {row["address"]: row["user"] for row in json.loads(listed.stdout)}

    def empty(self) -> None:
        """Begin anew: no row, no revocation, and nothing remembered."""
        assert self.toolkit("revoke", "--all").returncode == 0
        with contextlib.closing(sqlite3.connect(self.store, timeout=20)) as connection:
            connection.execute("DELETE FROM popbsmtp")
            connection.commit()

    def events(self, name: str = "") -> list[dict[str, str]]:
        """Return what was logged so far, of one name or all, as the fields of each line."""
        found = [fields(line) for line in self.log_text().splitlines()]
        return [event for event in found if name in ("", event.get("event"))]

    def login(self, address: str, user: str = "alice", service: str = "imap") -> tuple[str, str]:
        """Return the answer (word, text) to a login by the wrapper's line."""
        with self.connect() as peer:
            peer.sendall(format_request(address, user.encode(), service.encode()))
            return parse_answer(read_all(peer).rstrip(b"\n"))

    def dovecot_login(self, address: str, user: str = "alice", service: str = "imap") -> bytes:
        """Return the reply to a login by Dovecot's request, b"" when there is none."""
        with self.connect(self.postlogin[service]) as peer:
            peer.sendall(dovecot_request(address, user))
            return read_all(peer)

    def connect(self, path: Path | None = None) -> socket.socket:
        """Return a connection to a socket of the recorder, by default the wrapper's."""
        peer = socket.socket(socket.AF_UNIX)
        try:
            peer.settimeout(PATIENCE_S)
            peer.connect(str(path or self.socket))
        except BaseException:
            peer.close()
            raise
        return peer

    def _reloads(self) -> list[dict[str, str]]:
        return [e for e in self.events() if e.get("event") in ("reloaded", "reload_failed")]

    def _group(self) -> str:
        entry = subprocess.run(["id", "-gn", self.owner], capture_output=True, text=True)
        return entry.stdout.strip() or "root"


def dovecot_request(address: str, user: str = "alice", more: str = "home=/home/alice") -> bytes:
    """Return what Dovecot sends for a login (protocols/script_login.py)."""
    return f"VERSION\tscript-login\t1\t0\n127.0.0.1\t{address}\t{user}\t{more}\n".encode()


def read_all(peer: socket.socket) -> bytes:
    """Return all that comes until the other side closes or resets the connection."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while data := peer.recv(65536):
            received += data
    return received


def answers(peers: Iterable[socket.socket]) -> list[bytes]:
    """Return what each of *peers* gets, and close them."""
    found = []
    for peer in peers:
        with peer:
            found.append(read_all(peer))
    return found


def fields(line: str) -> dict[str, str]:
    """Return the fields of a log line; assert that it holds nothing else."""
    found = {name: json.loads(v) if v[0] == '"' else v for name, v in _FIELD.findall(line)}
    assert _FIELD.sub("", line).strip() == "", line
    return found
