"""A stand-in for the service manager: starts the recorder, hears it, restarts it.

As systemd does: Restart=always after a moment, NOTIFY_SOCKET, WATCHDOG_USEC, and listening sockets
that outlive the recorder, where *keeps_sockets*.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

from tests.chaos.lag import Lag
from tests.chaos.model import Window
from tests.harness import lifetime, reaper
from tests.harness.process import ENVIRONMENT

_DRIVER: Final = str(Path(__file__).with_name("recorder_driver.py"))
_RESTART_S: Final = 0.2
_WATCHDOG_S: Final = 8.0
# systemd's TimeoutStopSec; the recorder promises less.
_STOP_S: Final = 20.0
# A start is one start of Python with SQLAlchemy, and waits for nothing.
_READY_S: Final = 10.0
# After fork, before exec: sd_listen_fds(3) wants 3 and up, and our pid.
_PASSED: Final = (
    "import os, sys; n = int(sys.argv[1]); fds = [int(f) for f in sys.argv[2:2 + n]];"
    "high = [os.dup2(f, 200 + i) for i, f in enumerate(fds)];"
    "[os.dup2(h, 3 + i) for i, h in enumerate(high)];"
    "os.environ.update(LISTEN_FDS=str(n), LISTEN_PID=str(os.getpid()),"
    " WATCHDOG_PID=str(os.getpid()));"
    "os.execv(sys.executable, [sys.executable, '-I', *sys.argv[2 + n:]])"
)


class Manager:
    """Keeps one recorder running; *restarts* and *troubles* say what it took."""

    def __init__(
        self, config: Path, sockets: list[Path], log: Path, lag: Lag, *, keeps_sockets: bool
    ) -> None:
        self.restarts = 0
        self.troubles: list[str] = []
        self.log = log
        self.keeps_sockets = keeps_sockets
        self._config = config
        self._lag = lag
        self._listeners: list[socket.socket] = []
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = config.parent / "notify"
        self._notify.bind(str(self._address))
        if keeps_sockets:
            for path in sockets:
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(path))
                path.chmod(0o666)
                listener.listen(4096)
                self._listeners.append(listener)
        self._lock = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._root: reaper.Process | None = None
        self._held = False
        self._paused = False
        self._paused_since = 0.0
        self._wanted = True
        self._fed = 0.0
        self._ready = False
        self._away_since: float | None = time.time()
        self._starting_since: float | None = None
        self._away: list[Window] = []
        self.crashes: list[Window] = []
        self.stops: list[Window] = []
        self._thread = threading.Thread(target=self._manage, daemon=True)

    def start(self) -> None:
        """Start the recorder and look after it."""
        self._thread.start()
        if not self.wait_ready(60):
            raise RuntimeError(f"the recorder does not start:\n{self.log.read_text()[-2000:]}")

    def close(self) -> None:
        """Stop the recorder in order, then for good."""
        with self._lock:
            self._wanted = False
            self.resume()
            self._signal(signal.SIGTERM)
        self._thread.join(_STOP_S)
        self._kill()

    def wait_ready(self, timeout_s: float) -> bool:
        """Tell whether the recorder says READY=1 within *timeout_s*."""
        with self._lock:
            return self._lock.wait_for(lambda: self._ready and not self._paused, timeout_s)

    def kill(self) -> None:
        """kill -9."""
        with self._lock:
            self._crash()

    def send(self, number: int) -> None:
        """Signal the recorder; SIGTERM makes it go away."""
        with self._lock:
            if number == signal.SIGTERM:
                self._goes_away()
            self._signal(number)

    def pause(self) -> None:
        """SIGSTOP."""
        with self._lock:
            self._paused = True
            self._paused_since = time.time()
            self._goes_away(ready=True)
            self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        with self._lock:
            self._signal(signal.SIGCONT)
            if self._paused:
                # What was under way is done a moment later.
                self.stops.append(Window(self._paused_since, time.time() + 1))
            self._paused = False
            if self._ready:
                self._is_back()

    def hold(self) -> None:
        """kill -9, and no restart before release()."""
        with self._lock:
            self._held = True
            self.kill()

    def release(self) -> None:
        """Restart it after hold()."""
        with self._lock:
            self._held = False

    def away_between(self, began: float, ended: float) -> float:
        """Return for how many seconds of that time nobody served the sockets."""
        with self._lock:
            away = [*self._away]
            if self._away_since is not None:
                away.append(Window(self._away_since, time.time()))
        return sum(max(0.0, min(ended, w.ended) - max(began, w.began)) for w in away)

    def _goes_away(self, *, ready: bool = False) -> None:
        self._ready = self._ready and ready
        if self._away_since is None:
            self._away_since = time.time()

    def _crash(self) -> None:
        self._goes_away()
        assert self._away_since is not None
        self.crashes.append(Window(self._away_since, time.time()))
        self._signal(signal.SIGKILL)

    def _is_back(self) -> None:
        self._fed = time.monotonic()
        if self._away_since is not None:
            # A request that was sent to the one that is gone takes a moment to notice.
            self._away.append(Window(self._away_since, time.time()))
            self._away_since = None
        self._lock.notify_all()

    def _signal(self, number: int) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _kill(self) -> None:
        if self._process is not None and self._root is not None:
            reaper.kill_tree(self._root)
            self._process.wait()
            lifetime.forget(self._root)

    def _launch(self) -> None:
        environment = ENVIRONMENT | {"NOTIFY_SOCKET": str(self._address)}
        environment["WATCHDOG_USEC"] = str(int(_WATCHDOG_S * 1e6))
        words = [_DRIVER, "-c", str(self._config), "serve"]
        descriptors = [listener.fileno() for listener in self._listeners]
        if descriptors:
            numbers = [str(number) for number in descriptors]
            words = ["-c", _PASSED, str(len(descriptors)), *numbers, *words]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=descriptors,
                env=environment,
                cwd=Path(__file__).parents[2],
            )
        self._root = reaper.process(self._process.pid)
        assert self._root is not None
        lifetime.watch(self._root, self._kill)
        self._fed = time.monotonic()
        self.restarts += 1

    def _manage(self) -> None:
        while True:
            self._hear()
            with self._lock:
                if self._process is not None and self._process.poll() is not None:
                    self._goes_away()
                    assert self._root is not None
                    lifetime.forget(self._root)
                    self._process, self._paused = None, False
                    if not self._wanted:
                        return
                if self._process is None and not self._held:
                    if self._starting_since is None:
                        self._starting_since = time.time()
                    time.sleep(_RESTART_S)
                    self._launch()
                self._judge()

    def _hear(self) -> None:
        readable, _, _ = select.select([self._notify], [], [], 0.05)
        if not readable:
            return
        said = self._notify.recv(4096).decode().splitlines()
        with self._lock:
            self._fed = time.monotonic()
            if "READY=1" in said and not self._ready:
                self._ready = True
                self._starting_since = None
                if not self._paused:
                    self._is_back()

    def _judge(self) -> None:
        if self._process is not None and time.monotonic() - self._fed > _WATCHDOG_S + 2:
            # Also one that is stopped: systemd's watchdog does not know the difference.
            self._crash()
            self._fed = time.monotonic()
        if self._held or self._paused:
            self._starting_since = None
        began, now = self._starting_since, time.time()
        if began and now - began > _READY_S + self._lag.between(began, now):
            self.troubles.append(
                f"expected the recorder to be ready within {_READY_S:g} s of its start,"
                f" found it not ready after {now - began:.1f} s"
            )
            self._starting_since = now + 3600

    def close_sockets(self) -> None:
        """Let go of what outlives the recorder."""
        for listener in (*self._listeners, self._notify):
            with contextlib.suppress(OSError):
                listener.close()
        with contextlib.suppress(OSError):
            os.unlink(self._address)
