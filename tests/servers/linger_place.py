"""A recorder that a login has started, as the tests of it see it from outside."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from popbsmtp_wrap.wrapper import linger
from tests.harness.directories import public_directory
from tests.servers.wrap_fixtures import (
    GREETING,
    PATIENT_WAIT,
    POPBSMTP,
    Ended,
    Place,
    end_recorders,
    recording_processes,
    session,
)

# Answers OK to whatever comes, or nothing (argument "hang"), and records nothing.
_SQUATTER = """
import socket, sys, time
held = []
for name in sys.argv[2:]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(b"\\0" + name.encode())
    listener.listen()
    held.append(listener)
print("ready", flush=True)
if sys.argv[1] == "hang":
    time.sleep(600)
import selectors
ready = selectors.DefaultSelector()
for listener in held:
    ready.register(listener, selectors.EVENT_READ)
while True:
    for key, _ in ready.select():
        peer = key.fileobj.accept()[0]
        held.append(peer)
        try:
            peer.sendall(b"OK\\n")
        except OSError:
            pass  # it does not want to hear that
"""


class LingerPlace(Place):
    """A store on SQLite whose recorder stays, with a spool, missing unless a test makes it."""

    def __init__(self, *, linger: str = "10m", owner: int = 0) -> None:
        self.linger = linger
        super().__init__(public_directory(), owner=owner)

    @property
    def spool(self) -> Path:
        """The spool's directory."""
        return self.base / "spool"

    def configure(self, text: str = "", url: str | None = None, database: str = "") -> None:
        """Write the configuration: *text* goes into [recorder], *database* into that section."""
        text = f'[recorder]\nspool = "{self.spool}"\n{text}\n[wrapper]\n'
        text += f'wait = "{PATIENT_WAIT}"\nlinger = "{self.linger}"'
        super().configure(text, url, database)

    def login(self, number: int, *, wait: str = "30", **options: Any) -> Ended:
        """Log in from 198.51.100.*number* and return how the wrapper ended."""
        environment = {"IP": f"198.51.100.{number}", "USER": "alice"}
        return session(self.command(*GREETING, wait=wait), environment, **options)

    def name(self, number: int = 0, *, uid: int = 0) -> bytes:
        """Return the abstract name of a recorder of user *uid*, with its NUL."""
        name = linger._name(os.fsencode(self.config)) % number
        return name.replace(b"recorder-0-", b"recorder-%x-" % uid)

    @property
    def recorders(self) -> list[int]:
        """The processes that record for this configuration."""
        return recording_processes(self.config)

    @property
    def recorder(self) -> int:
        """The only one."""
        (pid,) = self.recorders
        return pid

    def addresses(self) -> set[str]:
        """Return the addresses in the table."""
        return {address for address, *_ in self.rows()}

    def popbsmtp(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the toolkit with this configuration."""
        command = [POPBSMTP, "-c", str(self.config), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def end(self) -> None:
        """Kill what is left."""
        end_recorders(self.config)


@contextlib.contextmanager
def squatting(user: int, *names: bytes, kind: str = "lie") -> Iterator[None]:
    """Have a process of *user* listen at *names*, and lie or hang."""
    texts = [name[1:].decode() for name in names]
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", _SQUATTER, kind, *texts],
        stdout=subprocess.PIPE,
        user=user,
        group=user,
        text=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()
