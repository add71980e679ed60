"""A running `popbsmtp watch` beside a recorder, and logs to write to."""

import os
import re
import shutil
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path

from tests.harness.process import Server, wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder, fields
from tests.servers.wrap_fixtures import POPBSMTP


class Watch(Server):
    """`popbsmtp watch` with the configuration of *recorder*; its first log is home/mail.log.

    *arguments* follow the command, and the state is in home/state. After stop() or kill(), start()
    goes on with the same.
    """

    name = "watch"

    def __init__(self, recorder: Recorder, *arguments: str, log: bool = True) -> None:
        super().__init__(recorder.log_path.parent)
        self.recorder = recorder
        self.log = self.home / "mail.log"
        self.state = self.home / "state"
        self.arguments = [*arguments, *([str(self.log)] if log else [])]
        self.exit_status: int | None = None

    def prepare(self) -> None:
        """Nothing has to be there."""

    def command(self) -> list[str]:
        options = ["-c", str(self.recorder.config), "watch", "--state", str(self.state)]
        return [POPBSMTP, *options, *self.arguments]

    def start(self) -> None:
        self._starts = len(self.events("started"))
        super().start()

    def is_ready(self) -> bool:
        return len(self.events("started")) > self._starts

    def wait_for_end(self) -> None:
        super().wait_for_end()
        assert self._process is not None
        self.exit_status = self._process.returncode

    def events(self, name: str) -> list[dict[str, str]]:
        """Return what was logged of one name so far, as the fields of each line."""
        lines = [line for line in self.log_text().splitlines() if f"event={name}" in line]
        return [event for line in lines if (event := fields(line)).get("event") == name]

    def wait_for_event(self, name: str, count: int = 1) -> None:
        wait_until(lambda: len(self.events(name)) >= count, PATIENCE_S, f"event={name}")

    def wait_for_rows(self, addresses: set[str]) -> None:
        wait_until(lambda: addresses <= set(rows(self.recorder)), PATIENCE_S, "rows")

    def rotate(self) -> None:
        """Rename as logrotate does: mail.log.1 becomes mail.log.2, mail.log mail.log.1."""
        self._make_room()
        self.log.rename(f"{self.log}.1")

    def copy_and_truncate(self) -> None:
        """Do what logrotate's copytruncate does."""
        self._make_room()
        shutil.copyfile(self.log, f"{self.log}.1")
        os.truncate(self.log, 0)

    def _make_room(self) -> None:
        old = sorted(self.home.glob("mail.log.*"), key=lambda p: int(p.suffix[1:]), reverse=True)
        for path in old:
            path.rename(f"{self.log}.{int(path.suffix[1:]) + 1}")


def append(path: Path, *lines: str | bytes) -> None:
    """Append whole lines with one write, as syslog daemons do."""
    with path.open("ab", buffering=0) as file:
        parts = [line.encode() if isinstance(line, str) else line for line in lines]
        file.write(b"".join(part + b"\n" for part in parts))


def dovecot(address: str, user: str = "alice", ago_s: float = 0, *, stamp: str = "") -> str:
    """Return Dovecot's line for a login *ago_s* ago."""
    stamp = stamp or f"{datetime.fromtimestamp(time.time() - ago_s, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    return (
        f"{stamp} mx dovecot: imap-login: Login: user=<{user}>, method=PLAIN, rip={address},"
        " lip=192.0.2.1, mpid=77, TLS, session=<abc>"
    )


def rows(recorder: Recorder) -> dict[str, int]:
    """Return when each address was last seen, Unix seconds; without those revoked."""
    query = "SELECT address, last_seen FROM popbsmtp WHERE last_seen > 1300000000"
    connection = sqlite3.connect(recorder.store, timeout=20)
    try:
        return dict(connection.execute(query).fetchall())
    finally:
        connection.close()


def seen_ago(recorder: Recorder, address: str) -> float:
    """Return how many seconds ago *address* was last seen."""
    return time.time() - rows(recorder)[address]


def pid_of(text: str) -> int:
    """Return the number in a PID file."""
    found = re.fullmatch(r"([0-9]+)\n", text)
    assert found, text
    return int(found[1])
