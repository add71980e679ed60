"""A network and mounts that end with this process."""

import ctypes
import os
import subprocess

from tests.harness import workers
from tests.harness.directories import public_directory

# linux/sched.h
_CLONE_NEWNS = 0x00020000


def leave_the_host() -> None:
    """Give this process, before it has threads, a loopback device and mounts of its own."""
    # What removes directories in the end must not see mounts in them: it starts here.
    public_directory("-chaos-")
    workers.leave_the_hosts_network()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        number = ctypes.get_errno()
        raise OSError(number, f"no mounts of its own: {os.strerror(number)}; run as root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
