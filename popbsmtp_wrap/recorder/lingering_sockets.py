"""The recorders that logins have started (wrapper/linger.py), as an administrator finds them."""

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, Final

from popbsmtp_wrap.client import administration
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.errors import PopbsmtpError, ServiceUnavailableError
from popbsmtp_wrap.wrapper.linger import PREFIX

# Those of this network namespace: proc_pid_net(5). Flags, and a path behind them.
_LISTED: Final = "/proc/net/unix"
_FLAGS: Final = 3
_PATH: Final = 7
# SO_ACCEPTCON (linux/net.h): it listens.
_LISTENS: Final = 1 << 16
# struct ucred: pid, uid, gid (unix(7)).
_CREDENTIALS: Final = struct.Struct("3i")
# For all of them, and what each gets in any case.
_LIMIT_S: Final = 5.0
_SHORTEST_S: Final = 0.05


def _is_genuine(name: str) -> bool:
    """Tell whether the user in *name* listens there: no wrapper asks another one."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
        # Do not wait for a full queue: asking for the status will show it.
        peer.setblocking(False)
        peer.connect(name)
        owner = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(owner)
        return name.startswith(f"\0{PREFIX}{uid:x}-")
    return True


def names() -> list[str]:
    """Return the abstract names, each with its NUL; none where /proc does not say."""
    found = []
    with contextlib.suppress(OSError), open(_LISTED, encoding="ascii", errors="replace") as file:
        next(file, "")
        for line in file:
            fields = line.rstrip("\n").split(maxsplit=_PATH)
            is_named = len(fields) > _PATH and fields[_PATH].startswith(f"@{PREFIX}")
            if is_named and int(fields[_FLAGS], 16) & _LISTENS:
                found.append(f"\0{fields[_PATH][1:]}")
    return sorted(found)


def statuses(
    settings: Settings, limit_s: float = _LIMIT_S
) -> Iterator[tuple[str, dict[str, Any] | PopbsmtpError]]:
    """Yield name and status of each that writes into the table of *settings*.

    Or the error in place of a status: what gives none may be one of these. All together are waited
    for *limit_s* seconds.
    """
    deadline = time.monotonic() + limit_s
    for name in names():
        try:
            if not _is_genuine(name):
                continue
            left_s = max(_SHORTEST_S, deadline - time.monotonic())
            found = json.loads(administration.ask_status(name, left_s))
            database = found["database"]
            url, table = database["url"], database["table"]
        except administration.NobodyListensError:
            continue  # it has ended since
        except PopbsmtpError as error:
            yield name, error
            continue
        except (ValueError, LookupError, TypeError) as error:
            shown = f"@{name[1:]} talks nonsense: {error!r}"
            yield name, ServiceUnavailableError(shown)
            continue
        if (url, table) == (masked(settings.database.url), settings.database.table):
            yield name, found


def any_status(settings: Settings) -> dict[str, Any]:
    """Return the status of the resident recorder, or of one that a login has started.

    Raise as administration.ask_status() if neither is running.
    """
    try:
        return dict(json.loads(administration.ask_status(settings.recorder.socket)))
    except administration.NobodyListensError:
        for _, found in statuses(settings):
            if not isinstance(found, PopbsmtpError):
                return found
        raise
