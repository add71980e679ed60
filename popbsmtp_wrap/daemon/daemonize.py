"""A process in the background with a PID file that tells whether it lives."""

import contextlib
import fcntl
import os
import sys

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.errors import RefusedError, ServiceUnavailableError


class PidFile:
    """A file with the number of this process, locked as long as it lives.

    What is left by a process that was killed is taken over: the lock counts, not the file.
    """

    def __init__(self, path: str) -> None:
        """Create and lock the file at absolute *path*.

        Raise ServiceUnavailableError when another process holds it, RefusedError when it cannot be.
        """
        self.path = path
        try:
            self._descriptor = safe_files.open_own(path, os.O_RDWR, 0o644)
        except OSError as error:
            raise RefusedError(f"--daemon {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            number = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            raise ServiceUnavailableError(
                f"--daemon {path}: process {number} runs already; end it with: kill {number}"
            ) from None

    def write(self) -> None:
        """Write the number of this process."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)

    def remove(self) -> None:
        """Remove the file, before anybody else can lock it."""
        with contextlib.suppress(OSError):
            os.unlink(self.path)

    def close(self) -> None:
        """Let others have the file."""
        os.close(self._descriptor)


class Background:
    """A child that goes on without its parent, which ends once the child has started.

    In the child, enter() returns; the parent exits with 0 when the child calls started(), and with
    1 when it ends before.
    """

    def __init__(self) -> None:
        self._pipe = -1

    def enter(self) -> None:
        """Go on in a child process, in a session of its own."""
        reader, self._pipe = os.pipe()
        if os.fork():
            os.close(self._pipe)
            os._exit(0 if os.read(reader, 1) else 1)
        os.close(reader)
        os.setsid()
        # Whoever is a session's leader may get a terminal by opening one.
        if os.fork():
            os._exit(0)
        os.chdir("/")

    def started(self) -> None:
        """Let the parent end, and the terminal go; standard input stays, it may be a pipe."""
        if self._pipe < 0:
            return
        sys.stdout.flush()
        null = os.open(os.devnull, os.O_RDWR)
        if os.isatty(0):
            os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)
        os.write(self._pipe, b"+")
        os.close(self._pipe)
        self._pipe = -1
