"""A throwaway machine: this one's file system under an overlay, with its own network and processes.

What runs in it sees the default ports, /etc, users and all that is installed here, and leaves
nothing behind. It needs root and the programs of util-linux and iproute2, no container engine.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .workers import hosts_network

REPOSITORY = Path(__file__).parent.parent.parent.resolve()

_START = r"""
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
mount -t proc proc "$1/merged/proc"
mount --rbind /dev "$1/merged/dev"
mount -t tmpfs tmpfs "$1/merged/run"
# Where the repository is on a file system of its own, the first overlay shows an empty directory.
mkdir -p "$1/upper-repository" "$1/work-repository" "$1/merged$2"
mount -t overlay overlay \
    -o "lowerdir=$2,upperdir=$1/upper-repository,workdir=$1/work-repository" "$1/merged$2"
ip link set lo up
echo ready
shift 2
exec "$@"
"""


class Machine:
    """A running throwaway machine; *addresses* are put on its loopback device."""

    isolation = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")

    def __init__(self, addresses: tuple[str, ...] = ()) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pbs", dir="/tmp"))
        self._process = subprocess.Popen(
            [
                *self.isolation,
                *["sh", "-c", _START, "sh", str(self.root), str(REPOSITORY)],
                *self.first_process(),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            self.stop()
            raise RuntimeError("no throwaway machine: overlay mounts need root")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        self.pid = int(children.read_text().split()[0])
        for address in addresses:
            self.run(
                f"ip address add {address} dev lo nodad"
                if ":" in address
                else f"ip address add {address}/32 dev lo"
            )

    def first_process(self) -> list[str]:
        """Return the argv of what goes on as process 1; its root is still this machine's."""
        return ["sleep", "infinity"]

    def command(self, *argv: str, outside_network: bool = False) -> list[str]:
        """Return the argv that runs *argv* inside."""
        network = f"--net={hosts_network()}" if outside_network else "--net"
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--pid", network]
        clean = ["env", "-i", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        keep = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        home = ["HOME=/root", "LC_ALL=C.UTF-8"]
        return [*enter, "chroot", str(self.root / "merged"), *clean, *keep, *home, *argv]

    def run(
        self, script: str, *, cwd: str = "/", outside_network: bool = False, text: str = ""
    ) -> str:
        """Return the output of a shell script; raise RuntimeError with it if a line fails.

        *outside_network* lets it reach the package index.
        """
        body = f"set -e\ncd {shlex.quote(cwd)}\n{script}"
        # Files, not pipes: a server that the script starts keeps them open.
        with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as output:
            given.write(text)
            given.seek(0)
            done = subprocess.run(
                self.command("sh", "-c", body, outside_network=outside_network),
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=150,
            )
            output.seek(0)
            printed = output.read()
        if done.returncode != 0:
            raise RuntimeError(f"{script}\nended with {done.returncode}:\n{printed}")
        return printed

    def connect(self, other: "Machine", ours: str, theirs: str) -> None:
        """Lay a cable to *other*; *ours* and *theirs* are the addresses at its ends.

        All cables of a machine end in one bridge, so *ours* is the same for each.
        """
        self.run(
            "ip link show br0 >/dev/null 2>&1 || {\n"
            "ip link add br0 type bridge && ip link set br0 up\n"
            f"ip address add {ours}/24 dev br0\n}}"
        )
        end = f"to{other.pid}"
        subprocess.run(
            [
                *["ip", "link", "add", end, "netns", str(self.pid), "type", "veth"],
                *["peer", "name", "eth0", "netns", str(other.pid)],
            ],
            check=True,
        )
        self.run(f"ip link set {end} master br0 up")
        other.run(f"ip link set eth0 up\nip address add {theirs}/24 dev eth0")

    def stop(self) -> None:
        """End every process inside and forget the file system."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        with contextlib.suppress(OSError):
            self.root.rmdir()


@contextlib.contextmanager
def machine(*addresses: str) -> Iterator[Machine]:
    """Give a running machine and stop it at the end."""
    made = Machine(addresses)
    try:
        yield made
    finally:
        made.stop()
