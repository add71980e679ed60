"""A throwaway machine whose process 1 is systemd; it starts what a test starts, and little else.

It needs the package systemd beside what machine.py needs, and a kernel with cgroup v2.
"""

import contextlib
import subprocess
import time
from collections.abc import Iterator

from .machine import Machine
from .process import wait_until

# In a mount of our own, seen by nobody else: where the cgroups are differs from host to host.
_CGROUPS = "mount -t cgroup2 cgroup2 /mnt && cd /mnt"
_JOIN = f'{_CGROUPS} && mkdir "$0" && echo $$ > "$0/cgroup.procs" && cd / && exec "$@"'
_LEAVE = f'{_CGROUPS} && find "$0" -depth -type d -exec rmdir {{}} +'
_BOOT = r"""
set -e
# Of /dev only what is no hardware: udev and journald make files in it.
mkdir "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for name in null zero full random urandom tty; do
    touch "$1/dev/$name"
    mount --bind "/dev/$name" "$1/dev/$name"
done
mkdir "$1/dev/pts" "$1/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
ln -s /proc/self/fd "$1/dev/fd"
umount -l "$1/merged/dev"
mount --move "$1/dev" "$1/merged/dev"
# Read-only, which is how systemd knows that hardware is none of its business.
mount -t sysfs -o ro sysfs "$1/merged/sys"
mount -t cgroup2 cgroup2 "$1/merged/sys/fs/cgroup"
exec chroot "$1/merged" env -i container=popbsmtp PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=basic.target --log-target=journal --show-status=no
"""


class SystemdMachine(Machine):
    """A running throwaway machine that systemctl works on."""

    def __init__(self, addresses: tuple[str, ...] = ()) -> None:
        self._cgroup = f"popbsmtp-{time.monotonic_ns()}"
        self.isolation = (
            *("unshare", "--mount", "sh", "-c", _JOIN, self._cgroup),
            *("unshare", "--mount", "--cgroup", "--ipc", "--uts", *Machine.isolation[2:]),
        )
        super().__init__(addresses)
        wait_until(self._has_started, 60, "the start of systemd")

    def first_process(self) -> list[str]:
        return ["sh", "-c", _BOOT, "sh", str(self.root)]

    def _has_started(self) -> bool:
        command = self.command("systemctl", "is-system-running")
        state = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        return state in ("running", "degraded")

    def stop(self) -> None:
        super().stop()
        command = ["unshare", "--mount", "sh", "-c", _LEAVE, self._cgroup]

        def is_left() -> bool:
            return subprocess.run(command, capture_output=True).returncode == 0

        with contextlib.suppress(TimeoutError):
            wait_until(is_left, 10, "the end of the processes")


@contextlib.contextmanager
def systemd_machine(*addresses: str) -> Iterator[SystemdMachine]:
    """Give a running machine with systemd and stop it at the end."""
    made = SystemdMachine(addresses)
    try:
        yield made
    finally:
        made.stop()
