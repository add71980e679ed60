"""The spool directory: its names, its lock and its bounds.

    <wall ns, 20 digits>-<pid>.spool        a segment: records (record.py), drained in name order
    <wall ns, 20 digits>-<pid>.tmp          not complete yet, or left by a crash
    <segment>.bad                           what was no record, set aside for a human
    recorder.lock                           held by the recorder that uses the spool (flock(2))

Nothing else in it is touched; symbolic links are never followed.
"""

import errno
import fcntl
import os
import pwd
import re
import stat
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.errors import ConfigError, SpoolBusyError, SpoolError
from popbsmtp_wrap.safe_files import Owner
from popbsmtp_wrap.spool.files import open_segment

SEGMENT: Final = re.compile(r"[0-9]{20}-[0-9]+\.spool")
RECORDER_LOCK: Final = "recorder.lock"
TEMPORARY: Final = re.compile(r"[0-9]{20}-[0-9]+\.tmp")
BAD: Final = re.compile(r"[0-9]{20}-[0-9]+\.spool\.bad")
# What most file systems give out at once.
_BLOCK: Final = 4096
_PIECE: Final = 1 << 16
_ADVICE: Final = {
    errno.ENOENT: "create it: install -d -m 0700 -o popbsmtp {path}",
    errno.EACCES: "it has to belong to the user who records; see: ls -ld {path}",
    errno.EPERM: "it has to belong to the user who records; see: ls -ld {path}",
    errno.ENOSPC: "make room on its file system; see: df {path}",
    errno.EDQUOT: "raise the quota of the user who records; see: quota",
    errno.EROFS: "mount its file system read-write; see: findmnt -T {path}",
}


class Spool:
    """The spool directory *path*, locked by this process until close() or unlock().

    Appender, Drain and remove() need the lock: only its holder appends to a segment or removes
    logins. put() needs none. Safe to share between threads.
    """

    def __init__(self, path: str, size: int, descriptor: int) -> None:
        self.path = path
        self.size = size
        # Segments that an Appender has open: no drain may touch them.
        self.being_written: set[str] = set()
        self._descriptor = descriptor

    def unlock(self) -> None:
        """Let others have the spool until relock()."""
        # A child that was forked has the descriptor as well, and the lock is the file's.
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def relock(self) -> bool:
        """Lock the spool again after unlock(); return False when another process has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def is_current(self) -> bool:
        """False when *path* names another directory by now: nothing locks that one."""
        try:
            now = os.stat(self.path)
        except OSError:
            return False
        return os.path.samestat(now, os.fstat(self._descriptor))

    def close(self) -> None:
        """Let others have the spool."""
        if self._descriptor >= 0:
            self.unlock()
            os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def closed_segments(self) -> list[str]:
        """Return the names of the segments that nobody writes, oldest first.

        Raise OSError when the directory cannot be listed.
        """
        # An Appender adds a name before it creates the file: what is listed and not in there was
        # closed, for good.
        return [name for name in names(self.path, SEGMENT) if name not in self.being_written]


@dataclass(frozen=True)
class Depth:
    """What waits in the spool; bad_files are those with what was no record."""

    records: int
    bytes: int
    bad_files: int


def prepare(path: str, owner: str = "") -> None:
    """Create the directory with mode 0700, unless it exists; root gives it to *owner*.

    Its parent has to exist. Raise ConfigError when there is no such user, SpoolError when the
    directory cannot be created.
    """
    try:
        entry = pwd.getpwnam(owner) if owner and os.geteuid() == 0 else None
    except KeyError:
        raise ConfigError(f"recorder.user: no user {owner!r}; create it or name another") from None
    folder, name = os.path.split(path.rstrip("/"))
    new_owner = entry and Owner(entry.pw_uid, entry.pw_gid)
    try:
        with safe_files.directory(folder) as place:
            try:
                os.mkdir(name, 0o700, dir_fd=place)
            except FileExistsError:
                if not _left_half_made(place, name):
                    return
            safe_files.hand_over_directory(place, name, 0o700, new_owner)
            safe_files.sync(place)
    except OSError as error:
        raise trouble(path, error) from None


def _left_half_made(place: int, name: str) -> bool:
    """Tell whether prepare() was killed before it gave the directory away."""
    status = os.lstat(name, dir_fd=place)
    private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700  # noqa: PLR2004
    return private and status.st_uid == 0 and not safe_files.names(place, name)


def lock(path: str, size: int) -> Spool:
    """Return the spool directory *path*, bounded to *size* bytes, for this process alone.

    Read permission suffices. Raise SpoolBusyError when another recorder or flush has it,
    SpoolError when it is missing or closed to us.
    """
    try:
        descriptor = _open_locked(path, os.O_DIRECTORY)
    except BlockingIOError:
        raise SpoolBusyError(
            f"another recorder or flush uses the spool {path}; see: fuser -v {path}"
        ) from None
    except OSError as error:
        raise trouble(path, error) from None
    return Spool(path, size, descriptor)


def _open_locked(path: str, flags: int) -> int:
    """Return a descriptor with the lock on *path*. Raise BlockingIOError when it is taken."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hold(path: str) -> int:
    """Return a descriptor that keeps other recorders away from the spool until it is closed.

    Raise SpoolBusyError when another recorder has it, SpoolError when the directory is missing or
    closed to us. A flush() may have the spool's lock() meanwhile: that ends by itself.
    """
    full = os.path.join(path, RECORDER_LOCK)
    try:
        descriptor = _open_locked(full, os.O_CREAT | os.O_NOFOLLOW)
        if os.fstat(descriptor).st_uid == os.geteuid():
            # A recorder that runs as another user has to see the lock, whatever the umask is.
            os.fchmod(descriptor, 0o644)
    except BlockingIOError:
        raise SpoolBusyError(
            f"another recorder uses the spool {path}; see: popbsmtp status, fuser -v {full}"
        ) from None
    except OSError as error:
        raise trouble(path, error) from None
    return descriptor


def depth(path: str) -> Depth:
    """Return what waits in the directory, whoever writes to it meanwhile.

    Files that we may not read count with their bytes alone. Raise SpoolError when the directory
    cannot be listed.
    """
    records = size = 0
    try:
        for name in names(path, SEGMENT):
            try:
                descriptor = open_segment(path, name)
            except OSError:
                size += _size(os.path.join(path, name))
                continue
            with os.fdopen(descriptor, "rb", 0) as file:
                size += os.fstat(descriptor).st_size
                records += sum(piece.count(b"\n") for piece in iter(lambda: file.read(_PIECE), b""))
        return Depth(records, size, len(names(path, BAD)))
    except OSError as error:
        raise trouble(path, error) from None


def names(path: str, kind: re.Pattern[str]) -> list[str]:
    """Return the sorted names of the regular files of a kind. Raise OSError."""
    with os.scandir(path) as entries:
        found = [entry for entry in entries if kind.fullmatch(entry.name)]
        return sorted(entry.name for entry in found if entry.is_file(follow_symlinks=False))


def check_room(path: str, size: int, wanted: int) -> int:
    """Return how many bytes the directory holds.

    Raise SpoolError when *wanted* more would be above *size*, OSError when it cannot be listed.
    """
    with os.scandir(path) as entries:
        used = sum(_size(entry.path) for entry in entries)
    if used + blocks(wanted) > size:
        raise SpoolError(
            f"spool {path} is full: it holds {used} of {size} bytes (recorder.spool_size);"
            " get the database back, or raise the size"
        )
    return used


def blocks(size: int) -> int:
    """Return what a file of *size* bytes takes on disk."""
    return -(-size // _BLOCK) * _BLOCK


def _size(path: str) -> int:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return 0  # drained meanwhile
    return allocated(status)


def allocated(status: os.stat_result) -> int:
    """Return what a file takes: at least its bytes, which may not be given blocks yet."""
    return max(status.st_size, status.st_blocks * 512)


def trouble(path: str, error: OSError) -> SpoolError:
    """Return *error* as what, where, what to do."""
    advice = _ADVICE.get(error.errno or 0, "see: ls -la {path}").format(path=path)
    return SpoolError(f"spool {path}: {error.strerror or error}; {advice}")
