"""Files and directories that root makes where another user may write.

That user can put a link in the way at any moment, or another file in place of one just made. So
root follows no link that is not its own, and changes what it holds open and nothing by name.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

# As the kernel does: path_resolution(7).
_MOST_LINKS: Final = 40
_LOOK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_PARENT_MODE: Final = 0o755


class Owner(NamedTuple):
    """Who gets a new file or directory; -1 leaves it as it is."""

    uid: int
    gid: int


def locate(path: str) -> int:
    """Return an O_PATH descriptor of what is at absolute *path*.

    Raise OSError; for root also if a symbolic link on the way belongs to another user.
    """
    place, rest, links = os.open("/", _LOOK), path.split("/"), 0
    try:
        while rest:
            if (name := rest.pop(0)) in ("", "."):
                continue
            found = os.open(name, _LOOK, dir_fd=place)
            try:
                status = os.fstat(found)
                if not stat.S_ISLNK(status.st_mode):
                    place, found = found, place
                    continue
                links += 1
                _check_link(status, links, path)
                target = os.readlink("", dir_fd=found)
            finally:
                os.close(found)
            rest = target.split("/") + rest
            if target.startswith("/"):
                os.close(place)
                place = os.open("/", _LOOK)
    except BaseException:
        os.close(place)
        raise
    return place


def _check_link(status: os.stat_result, links: int, path: str) -> None:
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    if os.geteuid() == 0 and status.st_uid != 0:
        raise PermissionError(
            errno.EPERM, f"root follows no symbolic link of user {status.st_uid}", path
        )


@contextmanager
def directory(path: str) -> Iterator[int]:
    """Give an O_PATH descriptor of the directory at absolute *path*, for dir_fd. Raise OSError."""
    descriptor = locate(path)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        yield descriptor
    finally:
        os.close(descriptor)


def make_directory(path: str, mode: int, owner: Owner | None = None) -> bool:
    """Return whether the directory at absolute *path* was made, with *mode*, for *owner*.

    One that exists stays as it is. Missing parents belong to this process, with mode 0755. Raise
    OSError.
    """
    parent, name = os.path.split(path.rstrip("/"))
    try:
        os.close(locate(path))
    except FileNotFoundError:
        pass
    else:
        return False
    if name:
        make_directory(parent, _PARENT_MODE)
    with directory(parent) as place:
        try:
            os.mkdir(name, 0o700, dir_fd=place)
        except FileExistsError:
            return False  # another process makes it at this moment
        hand_over_directory(place, name, mode, owner)
        sync(place)
    return True


def hand_over_directory(place: int, name: str, mode: int, owner: Owner | None) -> None:
    """Give the new directory *name* its owner and mode.

    Raise PermissionError when it is not the one that this process has just made: that one is empty
    and its own. Raise OSError.
    """
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
    try:
        if os.fstat(made).st_uid != os.geteuid() or os.listdir(made):
            raise PermissionError(errno.EPERM, "another directory took its place", name)
        if owner is not None:
            os.fchown(made, owner.uid, owner.gid)
        os.fchmod(made, mode)
        os.fsync(made)
    finally:
        os.close(made)


def names(place: int, name: str) -> list[str]:
    """Return what is in the directory *name*, which is no link. Raise OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=place)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def make_file(place: int, name: str, mode: int, owner: Owner | None = None) -> bool:
    """Return whether the empty file *name* was made in directory *place*; one that exists stays.

    Raise OSError.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        made = os.open(name, flags, 0o600, dir_fd=place)
    except FileExistsError:
        return False
    try:
        if owner is not None:
            os.fchown(made, owner.uid, owner.gid)
        os.fchmod(made, mode)
        os.fsync(made)
    finally:
        os.close(made)
    sync(place)
    return True


def open_own(path: str, flags: int, mode: int, *, place: int | None = None) -> int:
    """Return a descriptor of the regular file at *path*, made with *mode* if it is missing.

    *path* is absolute, or a name in the directory *place*. Its last part is no link of any kind:
    that may be another user's way to another file. Raise OSError.
    """
    if place is None:
        parent, name = os.path.split(path)
        with directory(parent) as found:
            return open_own(name, flags, mode, place=found)
    # Without O_NONBLOCK a FIFO would hold us up.
    more = os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor = os.open(path, flags | more, mode, dir_fd=place)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "no file of its own; remove it", path)
    return descriptor


def open_through_links(path: str, flags: int, mode: int) -> int:
    """Return a descriptor of what is at absolute *path*, a file made with *mode* if it is missing.

    It may be a symbolic link of root's, as administrators make them. Raise OSError.
    """
    parent, name = os.path.split(path)
    if parent == "/dev":
        return os.open(path, flags)  # /dev/stdout leads to what has no path
    try:
        found = locate(path)
    except FileNotFoundError:
        with directory(parent) as place:
            return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, mode, dir_fd=place)
    try:
        return os.open(f"/proc/self/fd/{found}", flags & ~os.O_CREAT)
    finally:
        os.close(found)


def sync(place: int) -> None:
    """Return when the names in the directory of an O_PATH descriptor are on disk. Raise OSError."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
