"""What this test process started, and how it ends.

Normally atexit ends it. If the test process is killed instead, even by SIGKILL, its end of the
pipe to reaper.py closes and the reaper does the rest.
"""

import atexit
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from . import reaper

_reaper: subprocess.Popen[str] | None = None
_stops: dict[int, Callable[[], None]] = {}
_parents: list[subprocess.Popen[str]] = []


def watch(root: reaper.Process, stop: Callable[[], None]) -> None:
    """Have *stop* called at the end of the run, or the tree killed if the run is cut short."""
    _tell(f"+{root.pid} {root.start}")
    _stops[root.pid] = stop


def forget(root: reaper.Process) -> None:
    """Undo watch(): the server is gone."""
    if _stops.pop(root.pid, None) is not None:
        _tell(f"-{root.pid}")


def remove_at_end(directory: Path) -> None:
    """Have *directory* removed, with all it holds, after the last server has ended."""
    _tell(f"rm {directory}")


def _tell(line: str) -> None:
    global _reaper  # noqa: PLW0603 - one reaper per test process
    if _reaper is None:
        program = Path(reaper.__file__)
        _reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            cwd="/",
        )
    assert _reaper.stdin is not None
    _reaper.stdin.write(line + "\n")
    _reaper.stdin.flush()


@atexit.register
def _end() -> None:
    if _reaper is None:
        return
    for stop in reversed(list(_stops.values())):
        try:
            stop()
        except Exception as error:  # noqa: BLE001 - the other servers must end, too
            sys.stderr.write(f"tests/harness: {error!r}; left to the reaper\n")
    assert _reaper.stdin is not None
    _reaper.stdin.close()
    _reaper.wait(timeout=60)


def _let_go() -> None:
    # A forked child neither ends its parent's servers when it exits nor keeps the pipe open.
    global _reaper  # noqa: PLW0603 - one reaper per test process
    _stops.clear()
    if _reaper is not None:
        assert _reaper.stdin is not None
        _reaper.stdin.close()
        # Kept, or Popen would warn of a process that is still running.
        _parents.append(_reaper)
        _reaper = None


os.register_at_fork(after_in_child=_let_go)
