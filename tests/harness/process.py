"""The life of a private server: started, ready, paused, stopped, killed."""

import contextlib
import itertools
import pwd
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from . import lifetime, reaper
from .directories import make_traversable, public_directory
from .ports import free_port

__all__ = [
    "ENVIRONMENT",
    "PASSWORD",
    "Server",
    "free_port",
    "missing_programs",
    "run",
    "wait_until",
]

PASSWORD = "harness-secret"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}

# Debian package: a file that only it brings.
_PROGRAMS = {
    "postfix": "/usr/lib/postfix/sbin/master",
    "postfix-pgsql": "/usr/lib/postfix/postfix-pgsql.so",
    "postfix-mysql": "/usr/lib/postfix/postfix-mysql.so",
    "postfix-sqlite": "/usr/lib/postfix/postfix-sqlite.so",
    "dovecot-imapd": "/usr/lib/dovecot/imap",
    "dovecot-pop3d": "/usr/lib/dovecot/pop3",
    "dovecot-pgsql": "/usr/lib/dovecot/modules/dict/libdriver_pgsql.so",
    "dovecot-mysql": "/usr/lib/dovecot/modules/dict/libdriver_mysql.so",
    "postgresql": "/usr/lib/postgresql/*/bin/initdb",
    "mariadb-server": "/usr/bin/mariadb-install-db",
    "systemd": "/lib/systemd/systemd",
    "strace": "/usr/bin/strace",
    "syslog-ng-core": "/usr/sbin/syslog-ng",
}


def missing_programs() -> list[str]:
    """Return the Debian packages that the harness needs and that are not installed."""
    return [
        package
        for package, path in _PROGRAMS.items()
        if not any(Path("/").glob(path.removeprefix("/")))
    ]


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Return as soon as *condition* holds; raise TimeoutError naming *what* after timeout_s."""
    deadline = time.monotonic() + timeout_s
    for delay_s in itertools.chain([0.001, 0.002, 0.005], itertools.repeat(0.01)):
        if condition():
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s} s for {what}")
        time.sleep(delay_s)


class Server(ABC):
    """A server in a process group of its own; a context manager that starts and stops it.

    Nothing is created before start(). After stop() or kill(), start() goes on with the same data
    and ports. What it leaves is removed at the end of the test run, but not its log in *base*.

    Its files are in *home*, below /tmp rather than *base*: another pytest run that begins closes
    /tmp/pytest-of-root for the users that the servers run as.
    """

    name: str
    user = "root"
    stop_signal = signal.SIGTERM
    start_timeout_s = 30.0
    stop_timeout_s = 10.0

    def __init__(self, base: Path) -> None:
        base.mkdir(parents=True, exist_ok=True)
        make_traversable(base)
        self.home = public_directory(f"-{self.name}-")
        self.log_path = base / f"{self.home.name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._root: reaper.Process | None = None
        self._prepared = False

    @abstractmethod
    def command(self) -> list[str]:
        """Return the argv of the server, which stays in the foreground."""

    @abstractmethod
    def prepare(self) -> None:
        """Create data and configuration; called once, before the first start."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether the server answers its clients."""

    @property
    def root(self) -> reaper.Process:
        """The server's first process; raise RuntimeError if the server was not started."""
        if self._root is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._root

    @property
    def pid(self) -> int:
        """The pid of the server's first process."""
        return self.root.pid

    @property
    def running(self) -> bool:
        """Whether the first process lives, paused or not."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when the server answers; raise RuntimeError with its log if it ends instead."""
        if self._process is not None:
            raise RuntimeError(f"{self.name} was started already")
        if not self._prepared:
            self.prepare()
            self._prepared = True
        user = pwd.getpwnam(self.user)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                umask=0o022,
                cwd="/",
                env=ENVIRONMENT,
            )
        # Even if it has ended already it is here, as a zombie, until the first poll().
        self._root = reaper.process(self._process.pid)
        assert self._root is not None
        lifetime.watch(self._root, self.stop)
        try:
            wait_until(lambda: not self.running or self.is_ready(), self.start_timeout_s, self.name)
        except BaseException:
            self.kill()
            raise
        if not self.running:
            self.kill()
            raise RuntimeError(f"{self.name} ended while starting:\n{self.log_text()[-4000:]}")

    def stop(self) -> None:
        """End the server properly; kill what is left after stop_timeout_s."""
        if self._process is None:
            return
        if self.running:
            self.resume()
            self.send_signal(self.stop_signal)
            with contextlib.suppress(TimeoutError):
                self.wait_for_end()
        self.kill()

    def wait_for_end(self) -> None:
        """Return when the stop signal has done its work; raise TimeoutError if it has not."""
        wait_until(lambda: not self.running, self.stop_timeout_s, f"the end of {self.name}")

    def kill(self) -> None:
        """SIGKILL the whole process tree, at once and without a chance to write anything."""
        if self._process is None or self._root is None:
            return
        reaper.kill_tree(self._root)
        self._process.wait(5)
        lifetime.forget(self._root)
        self._process = self._root = None

    def pause(self) -> None:
        """SIGSTOP the whole process tree: connections are accepted by the kernel, none answered."""
        reaper.stop_tree(self.root)

    def resume(self) -> None:
        """Undo pause()."""
        reaper.continue_tree(self.root)

    def send_signal(self, number: signal.Signals) -> None:
        """Signal the first process alone."""
        reaper.send(self.pid, number)

    def log_text(self) -> str:
        """Return all that the server has logged so far."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def run(argv: list[str], *, user: str, text: str = "", timeout_s: float = 120) -> str:
    """Return the output of a set-up program; raise RuntimeError with its messages if it fails."""
    entry = pwd.getpwnam(user)
    done = subprocess.run(
        argv,
        check=False,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        user=entry.pw_uid,
        group=entry.pw_gid,
        extra_groups=[],
        cwd="/",
        env=ENVIRONMENT,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
