"""The files that a log was before it was rotated: mail.log.1, mail.log-20240109."""

import contextlib
import os
from collections.abc import Iterator
from typing import Final

from popbsmtp_wrap.logs.file_position import FilePosition, open_log

_COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z")


def rotated(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """Yield a descriptor and the status of each, that which was written last first.

    The descriptor is the caller's. Compressed ones are left out.
    """
    directory, name = os.path.split(path)
    found = []
    with contextlib.suppress(OSError), os.scandir(directory or ".") as entries:
        for entry in entries:
            if not entry.name.startswith((f"{name}.", f"{name}-")):
                continue
            if entry.name.endswith(_COMPRESSED):
                continue
            with contextlib.suppress(OSError):
                found.append((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path))
    for _, full in sorted(found, reverse=True):
        try:
            descriptor = open_log(full, follow_links=False)
        except OSError:
            continue
        yield descriptor, os.fstat(descriptor)


def find(path: str, place: FilePosition) -> int | None:
    """Return a descriptor of the rotated file that *place* is in, None if it is nowhere."""
    found = None
    for descriptor, status in rotated(path):
        same = (status.st_dev, status.st_ino) == (place.device, place.inode)
        if (found is None or same) and place.is_in(descriptor):
            if found is not None:
                os.close(found)
            found = descriptor
        else:
            os.close(descriptor)
    return found
