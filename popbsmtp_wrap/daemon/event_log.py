"""Events of a resident process: one key=value line each, never blocking.

    event=database_down error="..." spooled=12

Values that hold more than letters, digits and -_./:@%+, are JSON strings in ASCII, so that nothing
from outside can begin a line or a field.
"""

import contextlib
import json
import os
import re
import select
import socket
import time
import traceback
from datetime import UTC, datetime
from typing import Final

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,-]+", re.ASCII)
_LONGEST_VALUE: Final = 500
# The last lines of a traceback say most; a datagram of syslog holds this much.
_LONGEST_TRACEBACK: Final = 3000
_SYSLOG: Final = "/dev/log"
# Facility mail (2), severity info (6): RFC 5424 section 6.2.1.
_PRIORITY: Final = 2 * 8 + 6
# A peer that does the same wrong thing all day may not fill the disk.
_MOST_ALIKE: Final = 20
_PERIOD_S: Final = 10.0


class EventLog:
    """Writes events to standard error or to syslog, and drops what would block."""

    def __init__(self, target: str) -> None:
        """*target* is recorder.log. Beyond 20 in 10 s, events of one name are only counted."""
        self._target = target
        # The journal, and only it, sets this; it has times of its own (systemd.exec(5)).
        self._stamped = "JOURNAL_STREAM" not in os.environ
        self._syslog: socket.socket | None = None
        self._periods: dict[str, tuple[float, int]] = {}

    def event(self, name: str, **fields: object) -> None:
        """Write one event with its *fields*; None is left out."""
        started, count = self._periods.get(name, (0.0, 0))
        now = time.monotonic()
        if now - started > _PERIOD_S:
            if count > _MOST_ALIKE:
                fields["not_logged"] = count - _MOST_ALIKE
            started, count = now, 0
        self._periods[name] = started, count + 1
        if count < _MOST_ALIKE:
            self._write(format_event(name, fields))

    def unexpected(self, what: str, error: BaseException) -> None:
        """Write event=unexpected for an exception that no code was written for."""
        trace = "".join(traceback.format_exception(error))
        self.event("unexpected", what=what, error=repr(error), traceback=trace)

    def reopen(self) -> None:
        """Open the log file again, for a log that has one: it may have been rotated."""

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError):
            if self._target == "syslog":
                self._send(line)
            elif select.select([], [2], [], 0)[1]:
                stamp = f"time={datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} " if self._stamped else ""
                os.write(2, f"{stamp}{line}\n".encode("ascii"))

    def _send(self, line: str) -> None:
        """Send one datagram in the form of RFC 3164, as syslog(3) does."""
        stamp = time.strftime("%b %e %H:%M:%S")
        message = f"<{_PRIORITY}>{stamp} popbsmtp[{os.getpid()}]: {line}".encode("ascii")
        for _ in range(2):
            try:
                if self._syslog is None:
                    self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    self._syslog.setblocking(False)
                    self._syslog.connect(_SYSLOG)
                self._syslog.send(message)
            except BlockingIOError:
                return
            except OSError:
                # The syslog daemon was restarted, or is not there.
                if self._syslog is not None:
                    self._syslog.close()
                self._syslog = None
            else:
                return


def format_event(name: str, fields: dict[str, object]) -> str:
    """Return the line of an event, without its end."""
    words = [f"event={name}"]
    for key, value in fields.items():
        if key == "traceback":
            words.append(f"{key}={json.dumps(str(value)[-_LONGEST_TRACEBACK:])}")
        elif value is not None:
            words.append(f"{key}={_value(value)}")
    return " ".join(words)


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    text = text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
