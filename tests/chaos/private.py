"""A network and mounts that end with this process."""

import ctypes
import os
import subprocess

from tests.harness import workers

# linux/sched.h
_CLONE_NEWNS = 0x00020000


def leave_the_host() -> None:
    """Give this process, before it has threads, a loopback device and mounts of its own."""
    workers.leave_the_hosts_network()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        number = ctypes.get_errno()
        raise OSError(number, f"no mounts of its own: {os.strerror(number)}; run as root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
