"""What kind of file system a file is on."""

import os
import re
from typing import Final

_MOUNTS: Final = "/proc/self/mountinfo"
# Those of a disk or of memory: who writes to one waits for no other machine and no other process.
_LOCAL: Final = frozenset(
    ("bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "ramfs", "tmpfs", "xfs")
)
_ESCAPED = re.compile(rb"\\([0-7]{3})")
# Mount point, the fields that a mount may have, file system (proc(5), /proc/PID/mountinfo).
_MOUNT = re.compile(rb"(?:\S+ ){4}(\S+) .*? - (\S+) ")


def is_on_local_disk(path: str, mounts: str = _MOUNTS) -> bool:
    """Tell whether no other machine or process can hang whoever writes to the file *path*.

    False where that is not known.
    """
    real = os.fsencode(os.path.realpath(path)) + b"/"
    longest, kind = b"", b""
    try:
        with open(mounts, "rb") as file:
            for line in file:
                if not (found := _MOUNT.match(line)):
                    continue
                point = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), found[1])
                # The last one of a mount point hides those before it.
                if len(point) >= len(longest) and (real + b"/").startswith(
                    point.rstrip(b"/") + b"/"
                ):
                    longest, kind = point, found[2]
    except OSError:
        return False
    return kind.decode("ascii", "replace") in _LOCAL
