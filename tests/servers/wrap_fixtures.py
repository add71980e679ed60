"""The wrapper as an administrator installs it, started in environments made by hand."""

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.harness.directories import public_directory
from tests.harness.process import wait_until

POPBSMTP = str(Path(sys.executable).with_name("popbsmtp"))
# Beyond the wait that a contract sets: two starts of Python on a machine that does other things.
SLACK_S = 4.0
# A recorder spools, or gives up, what is not committed after a part of this.
PATIENT_WAIT = "30s"

# What a program sees of itself, without changing any of it; written to the file of argv.
_PROBE = """
import json, os, sys
descriptors = {}
for number in range(256):
    try:
        descriptors[number] = [os.readlink(f"/proc/self/fd/{number}"), os.get_inheritable(number)]
    except OSError:
        pass
def read(name):
    with open(f"/proc/self/{name}", "rb") as file:
        return file.read().decode("latin-1")
status = dict(line.split(":", 1) for line in read("status").splitlines())
report = {
    "pid": os.getpid(),
    "cwd": os.getcwd(),
    "umask": int(status["Umask"], 8),
    "blocked": status["SigBlk"].strip(),
    "descriptors": descriptors,
    "environment": read("environ"),
    "arguments": read("cmdline"),
}
with open(sys.argv[1], "w") as file:
    json.dump(report, file)
"""


@dataclass(frozen=True)
class Ended:
    """How a wrapped program ended."""

    status: int
    stdout: bytes
    stderr: str
    seconds: float
    pid: int

    @property
    def lines(self) -> list[str]:
        """The lines on stderr; each of them has to be the wrapper's."""
        lines = self.stderr.splitlines()
        assert all(line.startswith("popbsmtp-wrap: ") for line in lines), lines
        return lines


@dataclass(frozen=True)
class Seen:
    """What the wrapped program saw."""

    pid: int
    cwd: str
    umask: int
    blocked: int
    descriptors: dict[int, tuple[str, bool]]
    environment: list[bytes]
    arguments: list[bytes]


@cache
def launcher() -> str:
    """Return a wrapper installed as the toolkit does it, in a directory that all users reach."""
    path = public_directory() / "popbsmtp-wrap"
    program = [sys.executable, "-I", "-m", "popbsmtp_wrap.wrapper.installer", str(path)]
    subprocess.run(program, check=True, timeout=60)
    return str(path)


def program(report: Path, *arguments: str | bytes) -> list[str | bytes]:
    """Return a program that writes what it sees to *report*, and its arguments."""
    return ["/usr/bin/python3", "-IS", "-c", _PROBE, str(report), *arguments]


def seen(report: Path) -> Seen:
    """Return what program() has written."""
    found: dict[str, Any] = json.loads(report.read_text())
    return Seen(
        found["pid"],
        found["cwd"],
        found["umask"],
        int(found["blocked"], 16),
        {int(number): tuple(kind) for number, kind in found["descriptors"].items()},
        found["environment"].encode("latin-1").split(b"\0")[:-1],
        found["arguments"].encode("latin-1").split(b"\0")[:-1],
    )


def run(
    command: Sequence[str | bytes],
    environment: Mapping[str | bytes, str | bytes],
    *,
    cwd: str | Path = "/",
    prepare: Callable[[], object] | None = None,
    timeout_s: float = 60,
    **options: Any,
) -> Ended:
    """Return how *command* ended; *prepare* runs in its process before the exec."""
    started = time.monotonic()
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, **options}
    options = {"stderr": subprocess.PIPE, **options}
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        preexec_fn=prepare,  # noqa: PLW1509 - what is prepared takes no locks
        **options,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    seconds = time.monotonic() - started
    text = (stderr or b"").decode("ascii")  # whatever came in, the log gets ASCII
    return Ended(process.returncode, stdout or b"", text, seconds, process.pid)


class Place:
    """A store on SQLite with its configuration and the wrapper's command."""

    def __init__(self, base: Path, configuration: str = "", *, owner: int = 0) -> None:
        self.base = base
        self.database = base / "store" / "popbsmtp.db"
        self.config = base / "popbsmtp.toml"
        self.url = f"sqlite:///{self.database}"
        self.configure(configuration)
        self.database.parent.mkdir()
        subprocess.run([POPBSMTP, "-c", self.config, "init"], check=True, capture_output=True)
        for path in (self.database.parent, *self.database.parent.iterdir()):
            os.chown(path, owner, owner)

    def configure(self, text: str = "", url: str | None = None, database: str = "") -> None:
        """Write the configuration: *database* goes into that section, *text* behind all.

        Unless *text* names a spool there is none, whatever this machine has, and on a busy machine
        a commit is waited for; unless it says otherwise a recorder that a login has started ends
        with it.
        """
        if not text:
            text = f'[wrapper]\nwait = "{PATIENT_WAIT}"\n'
        if "linger" not in text:
            text = f'[wrapper]\nlinger = "0"\n{text.removeprefix("[wrapper]")}'
        if "[recorder]" not in text:
            text = f'[recorder]\nspool = "{self.base}/no-spool"\n{text}'
        self.config.write_text(
            f'[database]\nurl = "{url or self.url}"\n{database}\n'
            f"[ignore]\npostfix_mynetworks = false\nown_addresses = false\n{text}\n"
        )

    def command(self, *arguments: str | bytes, wait: str = "30") -> list[str | bytes]:
        """Return the wrapper's command line with this configuration.

        It waits for long, as the machine may be busy; where time matters, *wait* is given, "" to
        leave it out.
        """
        options = ["--wait", wait] if wait else []
        return [launcher(), "--config", str(self.config), *options, *arguments]

    def rows(self) -> list[tuple[Any, ...]]:
        """Return (address, user, service) of all rows."""
        return self.query("SELECT address, username, service FROM popbsmtp ORDER BY address")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of *statement*, committed."""
        connection = sqlite3.connect(self.database, timeout=20, isolation_level=None)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def clear(self) -> None:
        """Delete all rows; nobody remembers them."""
        end_recorders(self.config)
        self.query("DELETE FROM popbsmtp")


def recording_processes(config: Path | str) -> list[int]:
    """Return the recorders that logins with this configuration have started, zombies included."""
    wanted = str(config).encode()
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if wanted in words and any(b"recorder.lingering" in word for word in words):
            found.append(int(entry))
    return found


def only_recorder(config: Path | str) -> int:
    """Return the one process that records for *config*, as soon as it is no fork any more."""
    wait_until(lambda: len(recording_processes(config)) == 1, 60, "the recorder")
    (pid,) = recording_processes(config)
    return pid


def end_recorders(config: Path | str) -> None:
    """Kill the recorders that logins with this configuration have started."""
    for pid in recording_processes(config):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not recording_processes(config), 60, "their end")


def descriptors(pid: int) -> dict[int, str]:
    """Return what each descriptor of a process is."""
    folder, found = f"/proc/{pid}/fd", {}
    for number in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            found[int(number)] = os.readlink(f"{folder}/{number}")
    return found


def session(
    command: Sequence[str | bytes],
    environment: Mapping[str | bytes, str | bytes],
    **options: Any,
) -> Ended:
    """Return how *command*, which ends in GREETING, ended with a client's socket as Dovecot's.

    Assert that the client got that program's output and nothing else, and the end of its
    connection at once, whatever goes on in the background; likewise on script-login's socket.
    """
    client, server = socket.socketpair()
    reply, login = socket.socketpair()
    with client, reply:
        try:
            ended = run(
                command,
                environment,
                stdin=server,
                stdout=server,
                pass_fds=(login.fileno(),),
                **options,
            )
        finally:
            server.close()
            login.close()
        received = b""
        for one in (client, reply):
            one.settimeout(0.5)
            while data := one.recv(4096):
                received += data
    assert received == b"* OK ready\r\n"
    assert ended.status == 0
    return ended


GREETING = ("/usr/bin/printf", r"* OK ready\r\n")
LOGIN: Mapping[str | bytes, str | bytes] = {"IP": "198.51.100.7", "USER": "alice"}
RECORDED = [("198.51.100.7", "alice", None)]
