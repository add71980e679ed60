"""Where the watcher's own events go: standard error, standard output, a file or syslog."""

import os
from typing import Final

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.daemon.event_log import EventLog, format_event
from popbsmtp_wrap.errors import RefusedError

STANDARD_OUTPUT: Final = "-"
SYSLOG: Final = "syslog"
STANDARD_ERROR: Final = "stderr"


class WatchLog(EventLog):
    """The recorder's log, to a file as well, and with more in it for who looks for a fault."""

    def __init__(self, target: str, *, verbose: bool) -> None:
        """*target* is STANDARD_ERROR, SYSLOG, STANDARD_OUTPUT or a path. Raise RefusedError."""
        super().__init__(SYSLOG if target == SYSLOG else STANDARD_ERROR)
        self._path = target if target.startswith("/") else None
        self._verbose = verbose
        if target == STANDARD_OUTPUT:
            os.dup2(1, 2)
        self._open()

    def debug(self, name: str, **fields: object) -> None:
        """Write an event that few want to see, however many there are of it."""
        if self._verbose:
            self._write(format_event(name, fields))

    def reopen(self) -> None:
        """Go on in a new file where the old one was renamed."""
        try:
            self._open()
        except RefusedError as error:
            self.event("log_not_reopened", error=error)

    def _open(self) -> None:
        if self._path is None:
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
        try:
            descriptor = safe_files.open_through_links(self._path, flags, 0o640)
        except OSError as error:
            raise RefusedError(f"--logto {self._path}: {error.strerror}") from None
        os.dup2(descriptor, 2)
        os.close(descriptor)
