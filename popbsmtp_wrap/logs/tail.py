"""A log file by its name, through rotations: renamed, copied and truncated, gone and back.

Looked at every INTERVAL_S rather than by inotify(7): it costs four fstat(2) and stat(2) a second,
works on network file systems, and sees what was truncated.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from popbsmtp_wrap.logs.file_position import HEAD, FilePosition, open_log
from popbsmtp_wrap.logs.open_log import OpenLog, Piece, TruncatedError
from popbsmtp_wrap.logs.rotation import find, rotated

INTERVAL_S: Final = 0.25
# Whoever writes goes on with the old file until he is told to open the new one.
LINGER_S: Final = 60.0
# Beyond this the oldest one is closed: a machine that rotates every second has another trouble.
_MOST_OLD: Final = 8
# Stamps of files may lag behind the clock by a tick of the kernel's, or by what a server says.
_TICK_NS: Final = 1_000_000_000
# Without a place the logins of the last minutes are wanted: 400,000 lines are at most read for it.
BACKLOG: Final = 64 << 20


class Tail:
    """The log *path*; look() gives what is new in it and in what it was before.

    After a look each line was given once, whatever happened to the file, unless the lines went away
    before they were looked for. Not safe to share between threads.
    """

    def __init__(self, path: str, places: Sequence[FilePosition] | None, since: float) -> None:
        """Go on at *places*; None begins at the end, with BACKLOG bytes before it.

        Of rotated files that *places* does not name, those are read that were changed after
        *since*, Unix seconds: when the places were saved, or what is older than that is not wanted.
        """
        self.path = path
        self.trouble: str | None = None
        # What went wrong and cannot be helped; whoever looks tells it.
        self.lost: list[str] = []
        self._looked_ns = time.time_ns()
        self._changed_ns = -1
        self._current: OpenLog | None = None
        self._old: deque[OpenLog] = deque()
        # Every identity and beginning that is or was read, so that it is not read again.
        self._seen: deque[tuple[int, int]] = deque(maxlen=64)
        self._heads: deque[bytes] = deque(maxlen=8)
        self._resume(places, since)

    @property
    def places(self) -> list[FilePosition]:
        """How far each file is done with, the oldest first."""
        logs = [*self._old, self._current] if self._current else [*self._old]
        return [log.place for log in logs]

    def close(self) -> None:
        """Close all files."""
        for log in self._old:
            log.close()
        if self._current:
            self._current.close()
        self._current = None
        self._old.clear()

    def look(self) -> Iterator[Piece]:
        """Yield what has been written since the last look, oldest first; rotate where needed."""
        now, looked_ns = time.monotonic(), time.time_ns()
        # What is written to the old file while its new name is found out comes with the next look.
        new = self._replaced()
        yield from self._read(now)
        if new is not None:
            self._rotate(new, now)
        if self._directory_changed(looked_ns) or new is not None:
            self._old.extend(self._missed(self._looked_ns - _TICK_NS))
            yield from self._read(now)
            while len(self._old) > _MOST_OLD:
                self.lost.append("rotated faster than it can be read")
                self._old.popleft().close()
        self._looked_ns = looked_ns

    def _resume(self, places: Sequence[FilePosition] | None, since: float) -> None:
        current = self._open()
        for place in places or ():
            if self._current is None and current is not None and place.is_in(current):
                self._current = OpenLog(current, place.offset)
            elif (descriptor := find(self.path, place)) is not None:
                self._old.append(OpenLog(descriptor, place.offset))
            else:
                self.lost.append(f"the log that was read to byte {place.offset} is gone")
        if self._current is None and current is not None:
            size = os.fstat(current).st_size
            start = max(0, size - BACKLOG) if places is None else 0
            self._current = OpenLog(current, _line_start(current, start))
        # It may have been rotated more than once while nobody looked.
        self._old.extend(self._missed(int(since * 1e9)))
        self._remember()

    def _directory_changed(self, looked_ns: int) -> bool:
        """Tell whether a file was made, renamed or removed beside this one since the last time."""
        try:
            changed_ns = os.stat(os.path.dirname(self.path)).st_mtime_ns
        except OSError:
            return False
        before, self._changed_ns = self._changed_ns, changed_ns
        # The next change may get the same stamp.
        if looked_ns - changed_ns < _TICK_NS:
            self._changed_ns = -1
        return changed_ns != before

    def _missed(self, after_ns: int) -> list[OpenLog]:
        """Return the rotated files that were written since, and that nobody has read."""
        self._remember()
        missed = []
        for descriptor, status in rotated(self.path):
            identity = (status.st_dev, status.st_ino)
            if status.st_mtime_ns < after_ns or identity in self._seen or self._is_copy(descriptor):
                os.close(descriptor)
            else:
                self._seen.append(identity)
                start = _line_start(descriptor, max(0, status.st_size - BACKLOG))
                missed.append(OpenLog(descriptor, start))
        return missed[::-1]

    def _is_copy(self, descriptor: int) -> bool:
        """Tell whether the file begins as one that was read; a copy of it may not be complete."""
        beginning = os.pread(descriptor, HEAD, 0)
        if any(beginning.startswith(head) for head in self._heads):
            return True
        if not beginning or any(head.startswith(beginning) for head in self._heads):
            self._changed_ns = -1
            return True
        return False

    def _open(self) -> int | None:
        try:
            descriptor = open_log(self.path, follow_links=True)
        except OSError as error:
            self.trouble = error.strerror
            return None
        self.trouble = None
        return descriptor

    def _replaced(self) -> int | None:
        """Return a descriptor of the file that has the name now, None if it is the one we have."""
        try:
            status = os.stat(self.path)
        except OSError as error:
            self.trouble = error.strerror
            return None
        if self._current and (status.st_dev, status.st_ino) == self._current.identity:
            self.trouble = None
            return None
        return self._open()

    def _rotate(self, new: int, now: float) -> None:
        status = os.fstat(new)
        if self._current:
            if (status.st_dev, status.st_ino) == self._current.identity:
                os.close(new)
                return
            self._current.grown_at = now
            self._old.append(self._current)
        self._current = OpenLog(new)

    def _read(self, now: float) -> Iterator[Piece]:
        for log in [*self._old]:
            yield from self._read_old(log, now)
        if self._current:
            yield from self._read_current(self._current, now)

    def _read_old(self, log: OpenLog, now: float) -> Iterator[Piece]:
        try:
            while piece := log.read(now):
                yield piece
        except (TruncatedError, OSError):
            self._drop(log)
            return
        if log.grown_at is None:
            log.grown_at = now
        if now - log.grown_at > LINGER_S:
            self._drop(log)

    def _drop(self, log: OpenLog) -> None:
        log.close()
        self._old.remove(log)

    def _read_current(self, log: OpenLog, now: float) -> Iterator[Piece]:
        try:
            while piece := log.read(now):
                yield piece
        except TruncatedError:
            self._current = log.restarted()
            if log.head and (copy := find(self.path, log.place)) is not None:
                # What was written between our last look and the truncation.
                rest = OpenLog(copy, log.done)
                self._old.append(rest)
                yield from self._read_old(rest, now)
            yield from self._read_current(self._current, now)
        except OSError as error:
            self.trouble = error.strerror
        else:
            self._remember()

    def _remember(self) -> None:
        for log in [*self._old, self._current]:
            if log is None:
                continue
            if log.identity not in self._seen:
                self._seen.append(log.identity)
            if log.head and log.head not in self._heads:
                for head in [*self._heads]:
                    if log.head.startswith(head):
                        self._heads.remove(head)
                self._heads.append(log.head)


def _line_start(descriptor: int, offset: int) -> int:
    """Return where the first line begins at or behind *offset*."""
    while offset and (data := os.pread(descriptor, 1 << 16, offset - 1)):
        end = data.find(b"\n")
        if end >= 0:
            return offset + end
        offset += len(data)
    return offset
