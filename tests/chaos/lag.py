"""How late this machine runs things, measured beside the run by a process of its own."""

import os
import subprocess
import sys
import tempfile
import time
from typing import Final, Self

_TICK_S: Final = 0.02
_SPAWN_EVERY_S: Final = 0.5
# A wrapper is one start of Python, a recording process is a larger one.
_STARTS: Final = 4


class Lag:
    """The control process; a context manager."""

    def __enter__(self) -> Self:
        self._file = tempfile.NamedTemporaryFile(prefix="pbs-lag-")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, self._file.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._file.close()

    def between(self, began: float, ended: float) -> float:
        """Return the seconds by which something of that time may have been late (Unix seconds).

        All that the control process woke up late, and what a few starts of Python took.
        """
        late, slowest = 0.0, 0.0
        for moment, tick, start in self._samples():
            if began - 2 <= moment <= ended + 2:
                late += tick
                slowest = max(slowest, start)
        return late + _STARTS * slowest

    def worst(self) -> float:
        """Return the largest lag of one moment so far."""
        return max((tick + _STARTS * start for _, tick, start in self._samples()), default=0.0)

    def _samples(self) -> list[tuple[float, float, float]]:
        # Anew each time: the clients are threads, and a file has one position for all of them.
        with open(self._file.name, encoding="ascii") as file:
            lines = [line.split() for line in file if line.endswith("\n")]
        return [(float(a), float(b), float(c)) for a, b, c in lines]


def _measure(path: str) -> None:
    with open(path, "w", buffering=1) as out:
        spawned, parent = 0.0, os.getppid()
        # It ends with the run, also with one that was killed.
        while os.getppid() == parent:
            before = time.monotonic()
            time.sleep(_TICK_S)
            late = time.monotonic() - before - _TICK_S
            start = 0.0
            if time.monotonic() - spawned > _SPAWN_EVERY_S:
                spawned = time.monotonic()
                subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=False)
                start = time.monotonic() - spawned
            if late > _TICK_S or start:
                out.write(f"{time.time()} {late} {start}\n")


if __name__ == "__main__":
    _measure(sys.argv[1])
