"""Files in a directory that others may write to as well: no link is followed, nothing replaced."""

import errno
import itertools
import os
import stat
import time
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from popbsmtp_wrap.spool.record import LONGEST_RECORD

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
# A FIFO that somebody has put there must not hold us up.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_PIECE: Final = 1 << 16


def create(path: str, suffix: str) -> tuple[str, int]:
    """Return the name of a new file and a descriptor that appends to it.

    Whoever owns the directory may read it: root gives it away. Raise OSError.
    """
    for moment_ns in itertools.count(time.time_ns()):
        name = f"{moment_ns:020d}-{os.getpid()}{suffix}"
        try:
            return name, create_named(path, name)
        except FileExistsError:
            continue
    raise AssertionError  # count() has no end


def create_named(path: str, name: str) -> int:
    """Return a descriptor that appends to the new file *name*. Raise OSError, if it exists too."""
    full = os.path.join(path, name)
    descriptor = os.open(full, _CREATE, 0o640)
    try:
        if os.geteuid() == 0:
            owner = os.stat(path)
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fchmod(descriptor, 0o640)  # whatever the umask says
    except BaseException:
        os.close(descriptor)
        os.unlink(full)
        raise
    return descriptor


def open_segment(path: str, name: str) -> int:
    """Return a descriptor that reads the file. Raise OSError, also if it is no regular file."""
    return _open_regular(os.path.join(path, name), _READ)


def open_bad(path: str, name: str) -> int:
    """Return a descriptor that appends to what is set aside of the segment. Raise OSError."""
    try:
        return create_named(path, f"{name}.bad")
    except FileExistsError:
        return _open_regular(os.path.join(path, f"{name}.bad"), _APPEND)


def _open_regular(full: str, flags: int) -> int:
    descriptor = os.open(full, flags)
    status = os.fstat(descriptor)
    # A file with two names may be somebody else's: a hard link needs no right to write.
    wrong = None if stat.S_ISREG(status.st_mode) else "no regular file"
    if wrong is None and flags & os.O_APPEND and status.st_nlink != 1:
        wrong = "a file with another name"
    if wrong:
        os.close(descriptor)
        raise OSError(errno.EINVAL, wrong)
    return descriptor


def write_all(descriptor: int, content: bytes) -> None:
    """Write *content*, with one write unless the kernel takes less. Raise OSError."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_directory(path: str) -> None:
    """Return when the names in the directory are on disk. Raise OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines(file: BinaryIO, offset: int) -> Iterator[tuple[bytes, int]]:
    """Yield each line from *offset* on and where it ends; of an over-long one its beginning.

    Raise OSError.
    """
    file.seek(offset)
    while line := file.readline(LONGEST_RECORD + 1):
        offset += len(line)
        rest = line
        while not rest.endswith(b"\n") and (rest := file.readline(_PIECE)):
            offset += len(rest)
        yield line, offset


def copy(source: BinaryIO, ranges: Iterable[tuple[int, int]], target: int) -> None:
    """Append the bytes of *source* in *ranges* (start, end) to a descriptor. Raise OSError."""
    for start, end in ranges:
        source.seek(start)
        left = end - start
        while left and (piece := source.read(min(_PIECE, left))):
            write_all(target, piece)
            left -= len(piece)
