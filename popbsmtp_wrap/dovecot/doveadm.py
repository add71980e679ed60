"""Run doveadm, and bound what it may cost: its time, its output, its children."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from typing import IO, Final

from popbsmtp_wrap.dovecot.doveadm_output import ARGUMENTS, open_addresses
from popbsmtp_wrap.errors import ServiceUnavailableError

# Where packages and `make install` of Dovecot put it.
PLACES: Final = ("/usr/bin/doveadm", "/usr/local/bin/doveadm", "/opt/dovecot/bin/doveadm")
# It takes some 20 ms; before that it may wait for a name server (doveconf of 2.4 does).
_LONGEST_S: Final = 10.0
# 100 bytes for each session.
_MOST_PRINTED: Final = 16 << 20
_MOST_SAID: Final = 64 << 10
_PIECE: Final = 1 << 16
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
# Nobody listens where it asks (doveadm_connect() in doveadm-util.c).
_NO_DOVECOT: Final = re.compile(
    r"net_connect_unix\(/\S+/anvil\) failed: (No such file or directory|Connection refused)$"
)
_LOOK_S: Final = 0.01
# A process that was killed ends at once, unless a disk hangs; then it is left.
_REAP_S: Final = 1.0
# Sessions that are taken apart at once, in about 1 ms.
_AT_ONCE: Final = 200


def find(configured: Sequence[str]) -> list[str] | None:
    """Return the command *configured*, else doveadm where it is usually; None where it is not."""
    if configured:
        return list(configured)
    return next(([path] for path in PLACES if os.access(path, os.X_OK)), None)


async def ask(command: Sequence[str], longest_s: float = _LONGEST_S) -> set[str]:
    """Return the client addresses that have IMAP or POP3 sessions open now.

    Where Dovecot does not run nobody has.
    Raise ServiceUnavailableError when *command* gives no complete answer within *longest_s*; it is
    gone then, with what it has started.
    """
    printed = await _printed(command, longest_s)
    found = set()
    try:
        for number, address in enumerate(open_addresses(printed)):
            found.add(address)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
    except ValueError as error:
        raise _trouble(command, str(error)) from None
    return found


async def _printed(command: Sequence[str], longest_s: float) -> bytes:
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns once the program is loaded
            [*command, *ARGUMENTS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
        )
    except OSError as error:
        raise _trouble(command, error.strerror or str(error)) from None
    reading = _Reading(process)
    try:
        async with asyncio.timeout(longest_s):
            await reading.done
            status = await _ended(process)
    except TimeoutError:
        raise _trouble(command, f"it does not end within {longest_s:g} s") from None
    except _FloodError as error:
        raise _trouble(command, str(error)) from None
    finally:
        reading.close()
        await _kill(process)
    if status:
        said = bytes(reading.said).decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "no message")
        if _NO_DOVECOT.search(last):
            return b"[]"
        raise _trouble(command, f"it ends with {status}: {last}")
    return bytes(reading.printed)


class _FloodError(Exception):
    """There is more of it than there can be."""


class _Reading:
    """What a process prints and says, until both have their end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.printed = bytearray()
        self.said = bytearray()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._open: set[IO[bytes]] = set()
        for pipe, received, most in (
            (process.stdout, self.printed, _MOST_PRINTED),
            (process.stderr, self.said, _MOST_SAID),
        ):
            assert pipe is not None  # noqa: S101 - for the type
            self._open.add(pipe)
            self._loop.add_reader(pipe, self._read, pipe, received, most)

    def _read(self, pipe: IO[bytes], received: bytearray, most: int) -> None:
        data = os.read(pipe.fileno(), _PIECE)
        received += data
        if len(received) > most and not self.done.done():
            self.done.set_exception(_FloodError(f"it prints more than {most >> 10} kB"))
        if not data:
            self._close(pipe)
            if not self._open and not self.done.done():
                self.done.set_result(None)

    def _close(self, pipe: IO[bytes]) -> None:
        self._open.remove(pipe)
        self._loop.remove_reader(pipe)
        pipe.close()

    def close(self) -> None:
        """Read no more."""
        for pipe in [*self._open]:
            self._close(pipe)
        self.done.cancel()


async def _ended(process: subprocess.Popen[bytes]) -> int:
    """Return the status of *process* once it has ended; it is not reaped yet.

    Negative for a signal.
    """
    how = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while (found := os.waitid(os.P_PID, process.pid, how)) is None:  # noqa: ASYNC110, ASYNC222 - WNOHANG
        await asyncio.sleep(_LOOK_S)
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


async def _kill(process: subprocess.Popen[bytes]) -> None:
    """End *process* and all of its group, whose number is ours until it is reaped."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_REAP_S):
            while process.poll() is None:  # noqa: ASYNC110 - some milliseconds
                await asyncio.sleep(_LOOK_S)


def _trouble(command: Sequence[str], what: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(f"{command[0]} who: {what}; {_advice(what)}")


def _advice(what: str) -> str:
    if "Permission denied" in what:
        return "let it in as popbsmtp dovecot prints, see docs/sessions.md"
    return "see docs/sessions.md, or set renew = 0 in [sessions]"
