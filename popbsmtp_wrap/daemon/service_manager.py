"""What a service manager and its service tell each other; nothing without a manager.

Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

# SD_LISTEN_FDS_START
_FIRST = 3


def passed_sockets(environment: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """Return the listening sockets that were passed to this process, by path.

    The variables go, so that no child takes them for its own.
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found = {}
    for descriptor in range(_FIRST, _FIRST + int(count)):
        passed = socket.socket(fileno=descriptor)
        passed.set_inheritable(False)
        name = passed.getsockname() if passed.family == socket.AF_UNIX else ""
        found[os.fsdecode(name)] = passed
    return found


def notify(*lines: str, environment: MutableMapping[str, str] = os.environ) -> None:
    """Tell the manager, where there is one: READY=1, STOPPING=1, STATUS=..."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.connect(address)
        manager.send("\n".join(lines).encode("utf-8"))


def reloading() -> None:
    """Tell the manager that the configuration is read again; READY=1 ends that."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_s(environment: MutableMapping[str, str] = os.environ) -> float | None:
    """Return the seconds within which the manager wants to hear WATCHDOG=1, None if never."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    limit_us = environment.get("WATCHDOG_USEC", "")
    return int(limit_us) / 1e6 if limit_us.isdecimal() and int(limit_us) else None
