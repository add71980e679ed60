"""One private mail site under test: database, recorder, watcher, and what happened there."""

import fcntl
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Final, Self

from popbsmtp_wrap.client import administration
from popbsmtp_wrap.config import Ignore
from popbsmtp_wrap.errors import PopbsmtpError
from tests.chaos import databases
from tests.chaos.lag import Lag
from tests.chaos.manager import Manager
from tests.chaos.model import Attempt, History, Revocation, ShortGrace, Window, violations
from tests.chaos.statements import REFUSALS
from tests.harness.directories import public_directory, write
from tests.harness.process import ENVIRONMENT
from tests.servers.watch_place import Watch
from tests.servers.wrap_fixtures import end_recorders

BIN: Final = Path(sys.executable).parent
GRACE_S: Final = 1800
# What the configuration says; a reload may change all of it.
SETTINGS: Final = {
    "grace": "30m",
    "refresh": "4s",
    "wait": "2s",
    "spool_size": "4M",
    "linger": "10m",
}
REPLY_TIMEOUT_S: Final = 1.0
# `popbsmtp revoke` may wait for a database or a recorder that hangs.
_TOOLKIT_S: Final = 90.0


class Site:
    """A context manager; nothing of it is outside its directory, its ports and its namespaces."""

    def __init__(self, kind: str, seed: int, faults: list[str]) -> None:
        rng = random.Random(f"{seed} site")
        self.faults = faults
        self.history = History()
        self.counts: Counter[str] = Counter()
        self.troubles: list[str] = []
        self.notes: list[str] = []
        self.home = public_directory("-chaos-")
        self.log = self.home / "recorder.log"
        self.config = self.home / "popbsmtp.toml"
        self.socket = self.home / "run" / "login.sock"
        self.postlogin = self.home / "run" / "imap-postlogin"
        self.spool = self.home / "spool"
        self.spool.mkdir(mode=0o700)
        (self.home / "run").mkdir()
        databases.mount(self.spool, "0700")
        self.settings = dict(SETTINGS)
        self._lock = threading.Lock()
        self.log_lock = threading.Lock()
        self._serial = 0
        self._hung_since: float | None = None
        self._fresh = 0
        self._kind = kind
        self._keeps_sockets = rng.random() < 0.5 or "late_request" in faults
        self._refusal = rng.random()
        # While set, an immediate reply of a post-login socket acknowledges nothing.
        self.spool_hurt = 0

    def __enter__(self) -> Self:
        self.lag = Lag().__enter__()
        self.database = databases.make(self._kind, self.home)
        self.configure()
        done = self.toolkit("init")
        assert done.returncode == 0, done.stderr
        self.refuse()
        sockets = [self.socket, self.postlogin]
        self.manager = Manager(
            self.config, sockets, self.log, self.lag, keeps_sockets=self._keeps_sockets
        )
        self.manager.start()
        self.watch = Watch(self)  # type: ignore[arg-type]  # it needs our log_path and config only
        self.watch.log.touch()
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.watch.stop()
        self.manager.close()
        self.manager.close_sockets()
        end_recorders(self.config)
        self.database.resume()
        self.database.stop()
        self.lag.__exit__()

    @property
    def log_path(self) -> Path:
        """The recorder's log."""
        return self.log

    def refuse(self) -> None:
        """Have the table refuse some rows from now on, if a fault needs that."""
        if {"refused_row", "kill_between_rows"} & set(self.faults):
            ways = REFUSALS[self._kind]
            self.database.sql(*ways[int(self._refusal * len(ways))])

    def configure(self, **settings: str) -> None:
        """Write popbsmtp.toml with other *settings*; SIGHUP has it read."""
        self.settings |= settings
        now = self.settings
        refresh_s = float(now["refresh"].removesuffix("s"))
        self.history.refresh_s = max(self.history.refresh_s, refresh_s)
        known = {field.name for field in fields(Ignore)}
        own = "own_addresses = false\n" if "own_addresses" in known else ""
        text = (
            f'grace = "{now["grace"]}"\n[database]\nurl = "{self.database.url}"\n'
            f'[wrapper]\nwait = "{now["wait"]}"\nlinger = "{now["linger"]}"\n'
            f"[ignore]\npostfix_mynetworks = false\n{own}"
            f'[recorder]\nsocket = "{self.socket}"\nsocket_mode = "0666"\nuser = ""\n'
            f'spool = "{self.spool}"\nspool_size = "{now["spool_size"]}"\n'
            f'refresh = "{now["refresh"]}"\nreply_timeout = "{REPLY_TIMEOUT_S:g}s"\n'
            f'[[recorder.postlogin]]\npath = "{self.postlogin}"\nservice = "imap"\n'
            "[sessions]\nrenew = 0\n"
        )
        fresh = self.config.with_suffix(".new")
        write(fresh, text, mode=0o640)
        fresh.rename(self.config)

    def toolkit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Return how `popbsmtp ARGUMENTS` ended; a status of -1 stands for no end at all."""
        words = [str(BIN / "popbsmtp"), "-c", str(self.config), *arguments]
        try:
            return subprocess.run(
                words, capture_output=True, text=True, timeout=_TOOLKIT_S, env=ENVIRONMENT
            )
        except subprocess.TimeoutExpired:
            self.trouble(f"popbsmtp {arguments[0]} did not end within {_TOOLKIT_S:g} s")
            return subprocess.CompletedProcess(words, -1, "", "")

    def revoke(self, *addresses: str) -> None:
        """Revoke *addresses* by the command, and remember what it said."""
        began = time.time()
        done = self.toolkit("revoke", *addresses)
        succeeded = done.returncode == 0 and "may come back" not in done.stderr
        revocation = Revocation(frozenset(addresses), began, time.time(), succeeded)
        with self._lock:
            self.history.revocations.append(revocation)
            self.counts["revoke" if succeeded else "revoke, in vain"] += 1

    def attempted(self, attempt: Attempt) -> None:
        """Remember *attempt*."""
        with self._lock:
            self.history.attempts.append(attempt)
            self.counts[f"{attempt.source}, {attempt.outcome}"] += 1

    def trouble(self, text: str) -> None:
        """Remember a promise that was broken while the run went on."""
        with self._lock:
            self.troubles.append(text)

    def note(self, text: str) -> None:
        """Remember what a fault did, for the report."""
        self.notes.append(f"{time.time():.1f} {text}")

    def user(self, prefix: str = "user") -> str:
        """Return a user's name that no other attempt has."""
        with self._lock:
            self._serial += 1
            return f"{prefix}{self._serial}"

    def fresh_address(self, network: str = "2001:db8:1::") -> str:
        """Return an address that nobody has used."""
        with self._lock:
            self._fresh += 1
            return f"{network}{self._fresh:x}"

    def spool_is_locked(self) -> bool:
        """Tell whether a process has the spool for itself, see flock(2)."""
        for path in (self.spool, *self.spool.glob("*lock*")):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(descriptor)
        return False

    def status(self) -> dict[str, object] | None:
        """Return what the recorder says of itself, None when it does not."""
        try:
            found: dict[str, object] = json.loads(administration.ask_status(str(self.socket)))
        except (PopbsmtpError, OSError, ValueError):
            return None
        return found

    def spooled(self) -> int:
        """Return how many bytes wait in the spool's files."""
        return sum(p.stat().st_size for p in self.spool.iterdir() if p.suffix != ".bad")

    def hang_database(self) -> None:
        """Have the database answer nobody; what it is sent meanwhile it may do later."""
        self._hung_since = time.time()
        self.database.pause()

    def free_database(self) -> None:
        """Undo hang_database()."""
        self.database.resume()
        if self._hung_since is not None:
            # Statements that it was sent are done a moment later.
            self.history.stalls.append(Window(self._hung_since, time.time() + 1))
            self._hung_since = None

    def drained(self, timeout_s: float) -> bool:
        """Tell whether the spool is empty within *timeout_s*."""
        deadline = time.monotonic() + timeout_s
        while self.spooled():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.1)
        return True

    def in_table(self, address: str, timeout_s: float) -> bool:
        """Tell whether *address* has a row within *timeout_s*."""
        deadline = time.monotonic() + timeout_s
        while not self.database.has(address):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def log_is_quiet(self, since: float) -> bool:
        """Tell whether the recorder has not said since then that the database was down."""
        ups = [line for line in self.log.read_text().splitlines() if "event=database_" in line]
        last = "down" if ups and "database_down" in ups[-1] else "up"
        return last == "up" and time.time() - since < 5

    def short_grace(self, began: float, grace_s: float) -> None:
        """Remember that older logins could be dropped since *began*."""
        self.history.short_graces.append(ShortGrace(began, time.time(), grace_s))

    def judged(self) -> list[str]:
        """Return what the table holds against the model, now."""
        with self._lock:
            history = replace(
                self.history,
                attempts=list(self.history.attempts),
                crashes=list(self.manager.crashes),
                stalls=[*self.history.stalls, *self.manager.stops],
            )
        return violations(history, self.database.rows(), time.time(), self.lag.worst())
