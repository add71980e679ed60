"""Logins from ever new addresses, through all the ways into a recorder at once."""

import contextlib
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from tests.servers.recorder_place import Recorder
from tests.servers.wrap_fixtures import GREETING, launcher, session

# Logins per client and second, so that two cores have time for the servers.
_PAUSE_S = 0.01
_numbers = itertools.count(1)


def next_address() -> str:
    """Return an address that no login has had."""
    number = next(_numbers)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


@dataclass
class Load:
    """Clients of the wrapper's and Dovecot's protocol, and sessions behind the real wrapper.

    acknowledged: between which moments each address that is said to be safe logged in, by the wall
    clock. Dovecot's reply says so unless it came after reply_timeout.
    opened and failed: mail sessions behind popbsmtp-wrap.
    refused: answers NO; unanswered: connections that failed or ended without an answer.
    """

    recorder: Recorder
    clients: int = 4
    acknowledged: dict[str, tuple[float, float]] = field(default_factory=dict)
    opened: int = 0
    failed: list[str] = field(default_factory=list)
    refused: int = 0
    unanswered: int = 0

    def __post_init__(self) -> None:
        self._ended = threading.Event()
        jobs = [self._wrapper_line, self._dovecot] * self.clients
        self._threads = [threading.Thread(target=self._repeat, args=(job,)) for job in jobs]
        self._threads.append(threading.Thread(target=self._repeat, args=(self._session,)))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, job) -> None:
        while not self._ended.is_set():
            try:
                job(next_address())
            except OSError:
                self.unanswered += 1
            time.sleep(_PAUSE_S)

    def _wrapper_line(self, address: str) -> None:
        at = time.time()
        word, _ = self.recorder.login(address)
        if word == "OK":
            self.acknowledged[address] = at, time.time()
        elif word == "NO":
            self.refused += 1
        else:
            self.unanswered += 1

    def _dovecot(self, address: str) -> None:
        at, started = time.time(), time.monotonic()
        reply = self.recorder.dovecot_login(address)
        if not reply:
            self.unanswered += 1
        elif time.monotonic() - started < 0.9:
            self.acknowledged[address] = at, time.time()

    def _session(self, address: str) -> None:
        at = time.time()
        command = [launcher(), "--config", self.recorder.config]
        command += ["--socket", self.recorder.socket, "--wait", "6", *GREETING]
        try:
            ended = session([str(word) for word in command], {"IP": address, "USER": "alice"})
        except AssertionError as error:
            self.failed.append(str(error))
            return
        self.opened += 1
        if all("recorded without the recorder" in line for line in ended.lines):
            self.acknowledged[address] = at, time.time()


def settle(recorder: Recorder) -> None:
    """Return when a recorder has nothing left to write."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            found = recorder.status()
            is_up = found["database"]["state"] == "up"
            if is_up and not found["waiting"] and not found["spool"]["logins"]:
                return
        time.sleep(0.1)
    raise TimeoutError(f"the recorder does not settle: {recorder.status()}")
