"""What a watcher has done with, on disk: a directory that one process holds at a time.

    lock            held while a watcher runs
    position.json   {"version": 1, "files": {path: [Place, ...]}, "journal": cursor}

A file that is missing or damaged means a first start. What was done since the last save is read
again after a crash; each line counts from its own time, so that does no harm.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.errors import RefusedError, ServiceUnavailableError
from popbsmtp_wrap.logs.file_position import FilePosition

_VERSION: Final = 1
_POSITION: Final = "position.json"
_LONGEST: Final = 1 << 20


@dataclass
class Positions:
    """How far each file is done with; a path that is missing was never read.

    *journal* is the cursor of the last entry that is done with.

    *saved* is when that was so, Unix seconds.
    """

    files: dict[str, list[FilePosition]] = field(default_factory=dict)
    journal: str | None = None
    saved: float = field(default=0.0, compare=False)


class Checkpoint:
    """The state directory of one watcher."""

    def __init__(self, directory: str) -> None:
        """Create *directory* unless it exists, and hold it until close().

        Raise ServiceUnavailableError when another watcher has it, RefusedError when it cannot be
        used.
        """
        self._directory = directory
        try:
            safe_files.make_directory(directory, 0o700)
            self._lock = safe_files.open_own(os.path.join(directory, "lock"), os.O_RDWR, 0o600)
        except OSError as error:
            raise RefusedError(
                f"watch.state {directory}: {error.strerror}; it has to belong to the user who"
                " watches, or name another with --state"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ServiceUnavailableError(
                f"another popbsmtp watch uses {directory}; see: fuser -v {directory}/lock"
            ) from None

    def close(self) -> None:
        """Let others have the directory."""
        os.close(self._lock)

    def load(self) -> Positions:
        """Return what was saved last."""
        try:
            with open(os.path.join(self._directory, _POSITION), "rb") as file:
                saved = os.fstat(file.fileno()).st_mtime
                return _parse(json.loads(file.read(_LONGEST)), saved)
        except (OSError, ValueError):
            return Positions()

    def save(self, positions: Positions) -> None:
        """Replace what was saved last, as a whole. Raise OSError."""
        path = os.path.join(self._directory, _POSITION)
        files = {name: [asdict(place) for place in v] for name, v in positions.files.items()}
        content = {"version": _VERSION, "files": files, "journal": positions.journal}
        descriptor = safe_files.open_own(f"{path}.new", os.O_WRONLY, 0o600)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(content).encode("ascii"))
            # Or a crash of the machine might leave an empty one.
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(f"{path}.new", path)


def _parse(content: Any, saved: float) -> Positions:
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        return Positions()
    files = {}
    for path, values in content["files"].items() if isinstance(content.get("files"), dict) else ():
        places = (
            [FilePosition.parse(value) for value in values] if isinstance(values, list) else [None]
        )
        if places and None not in places:
            files[path] = [place for place in places if place is not None]
    cursor = content.get("journal")
    return Positions(files, cursor if isinstance(cursor, str) else None, saved)
