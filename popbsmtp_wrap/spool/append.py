"""Write logins into the spool: many at once (Appender), or one (put)."""

import contextlib
import itertools
import os
import time
from collections.abc import Sequence

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.spool.directory import Spool, allocated, blocks, check_room, trouble
from popbsmtp_wrap.spool.files import create, create_named, fsync_directory, write_all
from popbsmtp_wrap.spool.record import format_record
from popbsmtp_wrap.spool.timestamp import Stamp

# A segment is removed when all of it is committed, and drained again after a crash: a few
# thousand logins.
LONGEST_SEGMENT = 1 << 20
# What a file takes besides its content: ext4 maps one in many pieces in a block of its own.
_MAP = 4096
# How often the directory is measured: 16,000 files of put() take 30 ms.
_MEASURE_S = 1.0


def put(path: str, size: int, login: Login, stamp: Stamp) -> str:
    """Return the file of its own in the directory *path* that *login* is safe in; see put_all()."""
    return put_all(path, size, [(login, stamp)])


def put_all(path: str, size: int, logins: Sequence[tuple[Login, Stamp]]) -> str:
    """Return the file of their own in the directory *path* that *logins* are safe in.

    For processes that hold no lock, of any user who may write there. The bound of *size* bytes
    may be passed by as many files as processes put at the same moment. Raise SpoolError when they
    are not safe; they may come out of the spool all the same.
    """
    content = b"".join(format_record(login, stamp) for login, stamp in logins)
    try:
        check_room(path, size, len(content))
        name, descriptor = create(path, ".tmp")
        temporary = os.path.join(path, name)
        try:
            try:
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            published = _publish(path, temporary)
        finally:
            os.unlink(temporary)
        fsync_directory(path)
    except OSError as error:
        raise trouble(path, error) from None
    return published


def _publish(path: str, temporary: str) -> str:
    """Give the file the name of a segment, and return it.

    link(2), as rename(2) would replace another's.
    """
    for moment_ns in itertools.count(time.time_ns()):
        name = f"{moment_ns:020d}-{os.getpid()}.spool"
        with contextlib.suppress(FileExistsError):
            full = os.path.join(path, name)
            os.link(temporary, full)
            return full
    raise AssertionError  # count() has no end


class Appender:
    """Appends groups of logins to segments of its own. For one thread."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._name = ""
        self._descriptor = -1
        # What append() has returned for; behind it there may be the torn tail of a failure.
        self._length = 0
        self._allocated = 0
        self._used = 0
        self._measured = -_MEASURE_S

    def append(self, logins: Sequence[tuple[Login, Stamp]], *, spare: bool = False) -> None:
        """Return when all of *logins* are safe on disk: one write, one fdatasync.

        Raise SpoolError when they are not, or when they would exceed the spool's size; some of
        them may come out of the spool all the same. What was appended before stays. With *spare*
        the size does not count: they take the place of logins that go next.
        """
        content = b"".join(format_record(login, stamp) for login, stamp in logins)
        try:
            if not spare:
                self._check_room(len(content) + _MAP)
            if self._length >= LONGEST_SEGMENT:
                self.close_segment()
            # Twice: somebody may have emptied the directory, and with it our segment.
            for _ in range(2):
                self._write(content)
                status = os.fstat(self._descriptor)
                if status.st_nlink:
                    self._used += allocated(status) - self._allocated
                    self._allocated = allocated(status)
                    return
                self.close_segment()
        except OSError as error:
            raise trouble(self._spool.path, error) from None
        raise SpoolError(
            f"spool {self._spool.path}: its files are removed as fast as they are written;"
            " stop what removes them"
        )

    def close_segment(self) -> None:
        """End the segment, so that it may be drained; the next append begins another."""
        if self._descriptor < 0:
            return
        with contextlib.suppress(OSError):
            os.close(self._descriptor)
        if self._length == 0:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._spool.path, self._name))
        self._descriptor, self._length, self._allocated = -1, 0, 0
        self._spool.being_written.discard(self._name)

    def _write(self, content: bytes) -> None:
        if self._descriptor < 0:
            self._begin_segment()
        try:
            write_all(self._descriptor, content)
        except OSError:
            try:
                os.ftruncate(self._descriptor, self._length)
            except OSError:
                self.close_segment()
            raise
        try:
            os.fdatasync(self._descriptor)
        except OSError:
            # Which pages are on disk is unknown from now on, and a second fdatasync would not
            # tell (fsync(2), "EIO"): what was appended before was safe, the rest goes elsewhere.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._length)
            self.close_segment()
            raise
        self._length += len(content)

    def _begin_segment(self) -> None:
        for moment_ns in itertools.count(time.time_ns()):
            self._name = f"{moment_ns:020d}-{os.getpid()}.spool"
            # Before the file is there, see Spool.closed_segments().
            self._spool.being_written.add(self._name)
            try:
                self._descriptor = create_named(self._spool.path, self._name)
                break
            except FileExistsError:
                self._spool.being_written.discard(self._name)
            except OSError:
                self._spool.being_written.discard(self._name)
                raise
        try:
            fsync_directory(self._spool.path)
        except OSError:
            self.close_segment()
            raise

    def _check_room(self, wanted: int) -> None:
        now = time.monotonic()
        fits = self._used + blocks(wanted) <= self._spool.size
        if not fits or now - self._measured >= _MEASURE_S:
            self._used = check_room(self._spool.path, self._spool.size, wanted)
            self._measured = now
