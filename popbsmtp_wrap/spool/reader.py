"""Take logins out of the spool, chunk by chunk; a chunk is forgotten when it is committed."""

import contextlib
import os
import time
from collections import deque
from dataclasses import dataclass, field, replace
from math import ceil

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.spool.directory import TEMPORARY, Spool, check_room, names, trouble
from popbsmtp_wrap.spool.files import copy, lines, open_bad, open_segment
from popbsmtp_wrap.spool.record import parse_record
from popbsmtp_wrap.spool.timestamp import Stamp, age_s

# put() takes milliseconds; a temporary file of this age was left by a crash.
STALE_S = 3600


@dataclass
class Chunk:
    """Logins of the spool, as old as they were when chunk() returned; there may be none.

    stored holds the same logins, in the same order, as the spool has them: with the moment at which
    each was as old as it says. What is put back is taken from there, so that an age is rounded up
    once. expired and untrusted count the records that were dropped: older than grace, and of no age
    that can be trusted. bad counts what was no record, errors are files that cannot be read.
    """

    logins: list[Login] = field(default_factory=list)
    stored: list[tuple[Login, Stamp]] = field(default_factory=list)
    expired: int = 0
    untrusted: int = 0
    bad: int = 0
    errors: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        """How many records commit() takes out of the spool."""
        return len(self.logins) + self.expired + self.untrusted + self.bad


@dataclass
class _Part:
    """What a chunk has read of a segment: up to *end*, to the end of the file if *whole*.

    identity tells whether it is still the same file: remove() replaces it by a smaller one, and may
    do so in another process while this one waits for the database without the lock.
    """

    name: str
    end: int
    identity: tuple[int, int] = (0, 0)
    whole: bool = False
    readable: bool = True
    bad: list[tuple[int, int]] = field(default_factory=list)


class SpoolReader:
    """Yields what waits in the closed segments, oldest first. For one thread.

    After a crash, uncommitted records are returned again, and perhaps the last committed ones.
    """

    def __init__(self, spool: Spool, grace_s: int, most: int) -> None:
        """Drain *spool* by *most* records at a time; those older than *grace_s* are dropped."""
        # The configuration may be read again between two chunks.
        self.grace_s = grace_s
        self._spool = spool
        self._most = most
        self._names: deque[str] = deque()
        self._begun = False
        # How much of the first name is committed, as long as it is the file of that identity.
        self._offset = 0
        self._offset_in = (0, 0)
        self._parts: list[_Part] = []

    def chunk(self, now: Stamp | None = None) -> Chunk | None:
        """Return the next chunk, the same again unless commit() was called; None at the end.

        Logins are as old as they are *now*, by default at this moment. After the end the next call
        starts over, with new files and with those that could not be read or removed.
        Raise SpoolError when the directory cannot be listed.
        """
        if not self._begun:
            try:
                self._names = deque(self._spool.closed_segments())
                _remove_stale(self._spool.path)
            except OSError as error:
                raise trouble(self._spool.path, error) from None
        self._begun = bool(self._names)
        if not self._begun:
            return None
        chunk, self._parts = Chunk(), []
        offset, now = self._offset, now or Stamp.now()
        for name in self._names:
            if chunk.records >= self._most:
                break
            self._parts.append(self._read(name, offset, now, chunk))
            offset = 0
        return chunk

    def commit(self) -> list[str]:
        """Forget the chunk that chunk() returned last; its logins are in the database.

        Return what went wrong: bad records that cannot be kept, files that cannot be removed and
        will be returned again. A segment that remove() rewrote in the meantime is read again.
        """
        errors: list[str] = []
        parts, self._parts = self._parts, []
        for part in parts:
            if not self._is_unchanged(part):
                self._offset = 0
                break
            if part.bad:
                try:
                    self._set_aside(part)
                except (OSError, SpoolError) as error:
                    errors.append(f"{part.name}: {len(part.bad)} bad records not kept: {error}")
            if not part.whole:
                self._offset, self._offset_in = part.end, part.identity
                break
            self._names.popleft()
            self._offset = 0
            try:
                if part.readable:
                    os.unlink(os.path.join(self._spool.path, part.name))
            except FileNotFoundError:
                pass
            except OSError as error:
                errors.append(f"{part.name}: cannot be removed: {error.strerror}")
        return errors

    def _is_unchanged(self, part: _Part) -> bool:
        """Tell whether commit() may go by what was read of the segment."""
        if not part.readable:
            return True
        try:
            status = os.lstat(os.path.join(self._spool.path, part.name))
        except OSError:
            return True  # nothing is left of it that could be lost
        return _identity(status) == part.identity

    def _read(self, name: str, offset: int, now: Stamp, chunk: Chunk) -> _Part:
        """Add the records of a segment from *offset* on to *chunk*, as many as it may hold."""
        part = _Part(name, offset)
        try:
            with os.fdopen(open_segment(self._spool.path, name), "rb") as file:
                part.identity = _identity(os.fstat(file.fileno()))
                if part.identity != self._offset_in:
                    part.end = 0
                for line, end in lines(file, part.end):
                    if chunk.records >= self._most:
                        return part
                    if not self._add(line, now, chunk):
                        part.bad.append((part.end, end))
                    part.end = end
        except FileNotFoundError:
            part.readable = False
        except OSError as error:
            part.readable = False
            part.bad = []
            chunk.errors.append(f"{name}: cannot be read: {error.strerror}")
        part.whole = True
        return part

    def _add(self, line: bytes, now: Stamp, chunk: Chunk) -> bool:
        """Count a line where it belongs; return False if it is no record."""
        try:
            login, stamp = parse_record(line)
        except ValueError:
            chunk.bad += 1
            return False
        waited_s = age_s(stamp, now)
        if waited_s is None:
            chunk.untrusted += 1
        elif login.age_s + waited_s > self.grace_s:
            chunk.expired += 1
        else:
            # Rounded up, so that nobody may relay longer.
            chunk.logins.append(replace(login, age_s=ceil(login.age_s + waited_s)))
            chunk.stored.append((login, stamp))
        return True

    def _set_aside(self, part: _Part) -> None:
        """Append what was no record to the .bad file. Raise OSError or SpoolError."""
        path = self._spool.path
        check_room(path, self._spool.size, sum(end - start for start, end in part.bad))
        with os.fdopen(open_segment(path, part.name), "rb") as source:
            target = open_bad(path, part.name)
            try:
                copy(source, part.bad, target)
                os.fsync(target)
            finally:
                os.close(target)


def _identity(status: os.stat_result) -> tuple[int, int]:
    # An inode's number may be used again, but a segment that was rewritten is smaller.
    return status.st_ino, status.st_size


def _remove_stale(path: str) -> None:
    """Remove temporary files that a crash has left. Raise OSError if they cannot be listed."""
    for name in names(path, TEMPORARY):
        full = os.path.join(path, name)
        with contextlib.suppress(OSError):
            if time.time() - os.lstat(full).st_mtime > STALE_S:
                os.unlink(full)
