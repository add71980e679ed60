"""Several test processes side by side (pytest-xdist): who runs what, and in which network.

Most tests wait for servers, so there are more processes than cores. The tests of a file stay
together, as they share servers; `pytest` without -n runs all of them one after the other, too.
"""

import ctypes
import os
import subprocess
from pathlib import PurePath
from typing import Any

# linux/sched.h
_CLONE_NEWNET = 0x40000000
_CLONE_NEWNS = 0x00020000
# Where packages put what a recorder of this machine uses.
_INSTALLED = ("/run/popbsmtp", "/var/lib/popbsmtp", "/var/spool/popbsmtp")

# They share nothing with the rest of their file, and wait for most of their time.
_APART = (
    "test_a_database_that_is_down_stops_relaying_only_and_comes_back",
    "test_spool_that_comes_while_a_process_hangs_gets_its_login",
    "test_crowd_",
    "test_nothing_is_left_after_a_minute",
    "test_guide_",
    "test_promises_hold_while_everything_breaks",
)
# What takes longest begins first, then the folders in this order; short files fill the end.
_LONG = ("test_postfix_check", "test_recorder_faults", "test_recorder_systemd", "test_wrap_spool")
_FOLDERS = ("chaos", "servers", "store", "spool", "cli", "unit")

_outside: int | None = None


def leave_the_hosts_network() -> None:
    """Give the calling thread, and what it starts, a network with a loopback device alone.

    Ports and abstract unix sockets, and with these the recorders that logins start, are its own,
    so no process takes what another one is about to use. Raise OSError without the right to do so.
    """
    global _outside  # noqa: PLW0603 - a process is in one network
    outside = os.open("/proc/self/ns/net", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"no network of its own: {os.strerror(number)}")
    _outside = outside
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=20)


def hide_what_is_installed() -> None:
    """Have the calling thread, and what it starts, see nothing of this machine's own recorder.

    The wrapper asks the default socket unless it is told otherwise, and a configuration without a
    spool or database names those that are in use. Raise OSError without the right to do so.
    """
    installed = [path for path in _INSTALLED if os.path.isdir(path)]
    if not installed:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        number = ctypes.get_errno()
        raise OSError(number, f"no mounts of its own: {os.strerror(number)}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True, timeout=20)
    for path in installed:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True, timeout=20)


def hosts_network() -> str:
    """Return a file that names the host's network, see setns(2)."""
    return "/proc/self/ns/net" if _outside is None else f"/proc/{os.getpid()}/fd/{_outside}"


def share(nodeid: str) -> str:
    """Return the name of what one process runs together: a file, or a test by itself."""
    file, _, test = nodeid.partition("::")
    return nodeid if test.startswith(_APART) else file


def folder(nodeid: str) -> str:
    """Return the name of the folder that a test is in."""
    return PurePath(nodeid.partition("::")[0]).parent.name


def rank(nodeid: str) -> int:
    """Return a number that is the lower the sooner a test should begin."""
    name = share(nodeid)
    if name == nodeid or PurePath(name).stem in _LONG:
        return 0
    return 1 + _FOLDERS.index(folder(nodeid)) if folder(nodeid) in _FOLDERS else 1


def scheduler(config: Any, log: Any) -> Any:
    """Return what hands the shares out, in the order of collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Shares(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return share(nodeid)

    config.option.loadscopereorder = False
    return Shares(config, log)
