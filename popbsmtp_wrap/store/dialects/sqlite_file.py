"""A connection to an SQLite database that knows which files it writes to.

SQLite goes on writing to a file that was removed or renamed, and to a -wal file that was removed
(https://www.sqlite.org/howtocorrupt.html, sections 2.4 and 4). Nobody reads what is written there,
so a commit counts only if the path still names the files that took it.
"""

import contextlib
import os
import sqlite3
from typing import Any, Final

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.errors import FileReplacedError, RefusedError
from popbsmtp_wrap.store.sqlite_files import identity

_DESCRIPTORS: Final = "/proc/self/fd"


class FileConnection(sqlite3.Connection):
    """A connection to the database file at *path*."""

    def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
        # Never opened here: closing a descriptor of our own would drop the locks that SQLite holds
        # on the same file (fcntl(2), "advisory record locks").
        _check_links(path)
        before = identity(path)
        super().__init__(*arguments, **options)
        self._path = path
        self.file = before if before == identity(path) else None
        # Beside the file that a link points to.
        self._log_path = f"{os.path.realpath(path)}-wal"
        self._log: str | None = None
        self._has_log = False
        self._examined = False
        self._changed_ns = 0
        if os.geteuid() == 0 and not {self.file} <= (_open_files() or {self.file}):
            raise FileReplacedError(f"{path} was replaced while it was opened")

    def check_in_place(self) -> None:
        """Return when the path names the files that this connection writes to.

        Call it after a commit. Raise FileReplacedError, and save from a -wal file that was removed
        what can be saved: this connection is then only good for close().
        """
        if self.file is None or identity(self._path) != self.file:
            raise FileReplacedError(f"{self._path} is not the file that was written")
        if not self._examined:
            self._examine()
        if self._has_log and identity(self._log_path) != self._log:
            self._leave_log()
            raise FileReplacedError(f"{self._log_path} is not the file that was written")
        self._changed_ns = _changed_ns(self._path)

    def _examine(self) -> None:
        """Find out once whether there is a -wal file, and that both files are the open ones."""
        self._has_log = self.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        self._log = identity(self._log_path) if self._has_log else None
        open_files = _open_files()
        wanted = {self.file, self._log} if self._has_log else {self.file}
        if None in wanted or (open_files and not wanted <= open_files):
            raise FileReplacedError(f"{self._path} is not the file that is open")
        self._examined = True

    def _leave_log(self) -> None:
        """Move the rows of a -wal file that was removed into the database.

        Not if the database has changed as well, as when a backup was copied over it: pages of
        both would be mixed.
        """
        if not _size(self._log_path) and _changed_ns(self._path) == self._changed_ns:
            with contextlib.suppress(sqlite3.Error):
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            # The checkpoint in close() stops at once, as there is a new statement only after it.
            self.interrupt()


def _check_links(path: str) -> None:
    """Raise RefusedError where root would open what another user's link leads to."""
    if os.geteuid() != 0:
        return
    try:
        os.close(safe_files.locate(path))
    except PermissionError as error:
        raise RefusedError(f"{path}: {error.strerror}; remove it, or give it to root") from None
    except OSError:
        return  # SQLite says so as well


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


def _open_files() -> set[str | None]:
    """Return what files this process has open; nothing where /proc is not mounted."""
    try:
        numbers = os.listdir(_DESCRIPTORS)
    except OSError:
        return set()
    return {identity(f"{_DESCRIPTORS}/{number}") for number in numbers}
