"""Logins that wait in a spool, and what comes out of it."""

import contextlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.spool.directory import Spool, lock
from popbsmtp_wrap.spool.reader import Chunk, SpoolReader
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.harness.directories import public_directory

SIZE = 8 << 20
GRACE_S = 1800
SECOND_NS = 1_000_000_000


def login(number: int) -> Login:
    """Return a login that differs from those of other numbers."""
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    return make_login(address, f"user{number}", "imap")


def number_of(one: Login) -> int:
    """Return the number that login() was called with."""
    assert one.user
    number = int(one.user.removeprefix("user"))
    assert (one.address, one.service) == (login(number).address, "imap")
    return number


def stamped(*numbers: int) -> list[tuple[Login, Stamp]]:
    """Return logins of this moment, for Appender.append()."""
    return [(login(number), Stamp.now()) for number in numbers]


def chunks(spool: Spool, most: int = 100) -> Iterator[Chunk]:
    """Yield what is in the spool, each chunk committed."""
    drain = SpoolReader(spool, GRACE_S, most)
    while (chunk := drain.chunk()) is not None:
        yield chunk
        assert drain.commit() == []


def drained(path: Path, size: int = SIZE) -> Chunk:
    """Return all that comes out of the spool as one chunk."""
    whole = Chunk()
    with lock(str(path), size) as spool:
        for chunk in chunks(spool):
            whole.logins += chunk.logins
            whole.expired += chunk.expired
            whole.untrusted += chunk.untrusted
            whole.bad += chunk.bad
            whole.errors += chunk.errors
    return whole


def drained_numbers(path: Path, torn: int = 0) -> list[int]:
    """Return the numbers of the logins that come out of the spool.

    Besides it holds nothing but at most *torn* half-written records.
    """
    whole = drained(path)
    assert (whole.expired, whole.untrusted, whole.errors) == (0, 0, [])
    assert whole.bad <= torn
    return [number_of(one) for one in whole.logins]


def segments(path: Path) -> list[Path]:
    """Return the segments, oldest first."""
    return sorted(path.glob("*.spool"))


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Give an empty directory on a file system of its own."""
    path = public_directory()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill_disk(path: Path) -> None:
    """Leave no room on the file system that the new file *path* is on."""
    with path.open("wb", 0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def in_child(work: Callable[[], object]) -> int:
    """Run *work* in a process of its own; return 0, or 1 if it raised, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at_every_step(work: Callable[[], object]) -> Iterator[int]:
    """Yield after *work* was killed before its first, second, ... call of the system; then end.

    The process ends as by kill -9 or a crash of Python: nothing is cleaned up.
    """
    for last in range(10_000):

        def dying(last: int = last) -> None:
            left = last

            def before(_frame: object, event: str, function: object) -> None:
                nonlocal left
                if event != "c_call" or getattr(function, "__module__", "") != "posix":
                    return
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

            sys.setprofile(before)
            work()

        status = in_child(dying)
        assert status in {0, -signal.SIGKILL}
        yield last
        if status == 0:
            return


def system_calls(work: Callable[[], object]) -> list[str]:
    """Return the names of the system calls that *work* makes, in their order."""
    calls: list[str] = []

    def before(_frame: object, event: str, function: object) -> None:
        if event == "c_call" and getattr(function, "__module__", "") == "posix":
            calls.append(getattr(function, "__name__", ""))

    sys.setprofile(before)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls
