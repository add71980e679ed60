"""Where reading has come in a log file, so that the file is known again under another name."""

import os
import stat
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

# A beginning of this length tells one log from another: it holds times and process numbers.
HEAD: Final = 1024
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@dataclass(frozen=True)
class FilePosition:
    """How far a file was read: all before *offset* is done with.

    The file is known by its first *head_length* bytes, of which *head* is the SHA-256: after
    copytruncate the same inode holds another log, and another inode the same.
    """

    device: int
    inode: int
    offset: int
    head_length: int
    head: str

    @classmethod
    def parse(cls, value: Any) -> "FilePosition | None":
        """Return the position that was saved as JSON, None if it is invalid."""
        if not isinstance(value, dict) or set(value) != set(cls.__dataclass_fields__):
            return None
        numbers = [value[name] for name in ("device", "inode", "offset", "head_length")]
        sound = all(isinstance(n, int) and n >= 0 for n in numbers)
        return cls(**value) if sound and isinstance(value["head"], str) else None

    def is_in(self, descriptor: int) -> bool:
        """Tell whether the open file is the one that was read. Raise OSError."""
        status = os.fstat(descriptor)
        if status.st_size < self.offset:
            return False
        if self.head_length == 0:
            return (status.st_dev, status.st_ino) == (self.device, self.inode)
        head = os.pread(descriptor, self.head_length, 0)
        return len(head) == self.head_length and digest(head) == self.head


def digest(head: bytes) -> str:
    """Return the hash of the file's first bytes."""
    return sha256(head).hexdigest()


def open_log(path: str, *, follow_links: bool) -> int:
    """Open a regular file for reading and return the descriptor. Raise OSError for others."""
    descriptor = os.open(path, _OPEN if follow_links else _OPEN | os.O_NOFOLLOW)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "not a regular file")
    return descriptor
