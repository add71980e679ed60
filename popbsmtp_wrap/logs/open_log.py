"""One open log file, read as it grows."""

import os
import time
from dataclasses import dataclass
from typing import Final

from popbsmtp_wrap.logs.file_position import HEAD, FilePosition, digest
from popbsmtp_wrap.logs.line_buffer import LineBuffer

# A few thousand lines: what is handed on, and done with, at once.
PIECE: Final = 1 << 18


class TruncatedError(Exception):
    """The file does not begin any more as it did."""


@dataclass(frozen=True)
class Piece:
    """Lines that stand together in *log*.

    *live_since* is when the file was last looked at before they were written, on the monotonic
    clock; None for what was there before anybody looked.
    """

    log: "OpenLog"
    lines: list[bytes]
    end: int
    live_since: float | None

    def done(self) -> None:
        """Do not read these again after a restart."""
        self.log.done = self.end


class OpenLog:
    """A log file that stays open, whatever its name is meanwhile."""

    def __init__(self, descriptor: int, offset: int = 0, live_since: float | None = None) -> None:
        """Read from *offset* on, where a line begins. Own *descriptor*. Raise OSError."""
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.done = offset
        self.grown_at: float | None = None
        self.descriptor = descriptor
        self.head = os.pread(descriptor, min(offset, HEAD), 0)
        self._next = offset
        self._lines = LineBuffer(offset)
        self._live_since = live_since
        self._looked = (-1, -1)
        self._opened = time.monotonic()
        # What stands here was written before; what follows was not.
        self._before = status.st_size

    @property
    def place(self) -> FilePosition:
        """How far it is done with."""
        head = self.head[: self.done]
        return FilePosition(*self.identity, self.done, len(head), digest(head))

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)

    def read(self, now: float) -> Piece | None:
        """Return what comes next, None at the end. *now* is on the monotonic clock.

        Raise TruncatedError when the file was emptied or replaced meanwhile, OSError when it
        cannot be read.
        """
        status = os.fstat(self.descriptor)
        if (status.st_size, status.st_mtime_ns) == self._looked:
            self._live_since = now
            return None
        while data := os.pread(self.descriptor, self._room(), self._next):
            self._check_head(self._next + len(data))
            self._next += len(data)
            self.grown_at = now
            if lines := self._lines.feed(data):
                return Piece(self, lines, self._lines.end, self._live_since)
        if os.fstat(self.descriptor).st_size < self._next:
            raise TruncatedError
        self._check_head(self._next)
        # Taken before the read: what was written since shows next time.
        self._looked = (status.st_size, status.st_mtime_ns)
        self._live_since = now
        return None

    def _room(self) -> int:
        """Return how many bytes to read at once: lines of before and after stay apart."""
        if self._live_since is None and self._next >= self._before:
            self._live_since = self._opened
        return PIECE if self._live_since is not None else min(PIECE, self._before - self._next)

    def restarted(self) -> "OpenLog":
        """Return the same file from its beginning, after it was truncated; this one is void."""
        return OpenLog(self.descriptor, 0, self._live_since)

    def _check_head(self, read_to: int) -> None:
        # After the data: whatever was read from a file that was truncated before shows here.
        head = os.pread(self.descriptor, HEAD, 0)
        if not head.startswith(self.head):
            raise TruncatedError
        self.head = head[:read_to]
