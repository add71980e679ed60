"""A recorder as systemd would start it, and what it takes of the machine."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from bench.databases import Place
from bench.programs import PROGRAM, TOOLKIT, WRAPPER, login_environment
from tests.harness import reaper
from tests.harness.directories import write
from tests.harness.process import Server

SERVICES: Final = ("imap", "pop3")
_SAMPLE_S: Final = 0.5
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Recorder(Server):
    """`popbsmtp serve` for the database of *place*, with all its defaults but the paths.

    It stays root, as the other programs that are measured do; popbsmtp-wrap may come from Dovecot.
    """

    name = "recorder"

    def __init__(self, base: Path, place: Place) -> None:
        super().__init__(base)
        self.place = place
        self.socket = str(self.home / "login.sock")
        self.postlogin = {service: str(self.home / service) for service in SERVICES}
        self.conf = str(self.home / "popbsmtp.toml")

    def prepare(self) -> None:
        tables = "".join(
            f'[[recorder.postlogin]]\npath = "{path}"\nservice = "{service}"\n'
            for service, path in self.postlogin.items()
        )
        text = (
            f"{Path(self.place.conf).read_text('utf-8')}[recorder]\n"
            f'socket = "{self.socket}"\nspool = "{self.home / "spool"}"\nuser = "root"\n'
            f'socket_group = "dovecot"\nusers = ["dovecot"]\n{tables}'
        )
        write(Path(self.conf), text, mode=0o640, owner="root:dovecot")

    def command(self) -> list[str]:
        return [TOOLKIT, "-c", self.conf, "serve"]

    def is_ready(self) -> bool:
        return "event=started" in self.log_text()

    def cpu_s(self) -> float:
        """Return the CPU seconds of the recorder so far, to the microsecond."""
        return cpu_s(self.pid)

    def status(self) -> dict[str, Any]:
        """Return what `popbsmtp status --json` prints."""
        return status(self.conf)


class Lingering:
    """The recorder that a first login with the configuration file *conf* starts."""

    def __init__(self, conf: str) -> None:
        subprocess.run(
            [WRAPPER, "--config", conf, "--wait", "30", PROGRAM],
            env=login_environment(),
            check=True,
        )
        self.pid: int = status(conf)["pid"]

    def cpu_s(self) -> float:
        """Return the CPU seconds of the recorder so far, to the microsecond."""
        return cpu_s(self.pid)

    def end(self) -> None:
        """Have it end."""
        os.kill(self.pid, signal.SIGTERM)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far, to the microsecond."""
    # What clock_getcpuclockid(3) gives for a process.
    return time.clock_gettime((~pid << 3) | 2)


def status(conf: str) -> dict[str, Any]:
    """Return what `popbsmtp status --json` prints."""
    argv = [TOOLKIT, "-c", conf, "status", "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


class Memory(NamedTuple):
    """Resident memory in MB: at the start of something, at its end, and the highest."""

    start: float
    end: float
    highest: float


class MemoryWatch:
    """Samples a process's resident memory; a context manager. *found* is there at its end."""

    def __init__(self, pid: int) -> None:
        self.found = Memory(0, 0, 0)
        self._pid = pid
        self._samples: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._samples.append(resident_mb(self._pid))

    def __enter__(self) -> Self:
        self._samples.append(resident_mb(self._pid))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._samples.append(resident_mb(self._pid))
        self.found = Memory(self._samples[0], self._samples[-1], max(self._samples))


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process in MB (VmRSS, proc(5))."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(f"{pid} has ended")


def tree_cpu_s(server: Server) -> float:
    """Return the CPU seconds of a server so far, its children's included, to 10 ms."""
    total = 0
    for process in reaper.tree(server.root):
        try:
            stat = Path(f"/proc/{process.pid}/stat").read_bytes()
        except FileNotFoundError:
            continue
        # utime, stime, cutime, cstime: fields 14 to 17 of proc(5).
        total += sum(map(int, stat.rpartition(b")")[2].split()[11:15]))
    return total / _TICKS_PER_S
