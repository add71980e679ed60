"""Wall and CPU time of a command, with the CPU time of everything that it leaves behind.

The meter is a process of its own, whose only descendants are those of the command. It is their
subreaper (PR_SET_CHILD_SUBREAPER, prctl(2)): a process that detaches itself becomes the meter's
child when its parent ends, so wait4() sees the CPU time of all. A server's is not counted.

One JSON object per line in, {"argv": [...], "env": {...}}; one out, {"wall": s, "cpu": s,
"status": n, "stderr": text}.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


class Cost(NamedTuple):
    """Seconds until the command ended, and of CPU until its last descendant had ended."""

    wall: float
    cpu: float


class Meter:
    """A running meter; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def cost(self, argv: Sequence[str], env: Mapping[str, str]) -> Cost:
        """Return what *argv* costs; raise RuntimeError when it fails or complains."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps({"argv": argv, "env": dict(env)}) + "\n")
        answer = json.loads(stdout.readline())
        if answer["status"] != 0 or answer["stderr"]:
            raise RuntimeError(f"{' '.join(argv)}: {answer['status']}, {answer['stderr']}")
        return Cost(answer["wall"], answer["cpu"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def measure(argv: list[str], env: dict[str, str]) -> dict[str, object]:
    """Return the answer for one command, when its last descendant has ended."""
    with tempfile.TemporaryFile() as complaints, open(os.devnull, "r+b") as null:
        descriptors = ((null.fileno(), 0), (null.fileno(), 1), (complaints.fileno(), 2))
        actions = [(os.POSIX_SPAWN_DUP2, ours, theirs) for ours, theirs in descriptors]
        started = time.perf_counter()
        child = os.posix_spawn(argv[0], argv, env, file_actions=actions)
        _, status, usage = os.wait4(child, 0)
        wall = time.perf_counter() - started
        cpu = usage.ru_utime + usage.ru_stime
        while True:
            try:
                _, _, usage = os.wait4(-1, 0)
            except ChildProcessError:
                break
            cpu += usage.ru_utime + usage.ru_stime
        complaints.seek(0)
        text = complaints.read(1000).decode(errors="replace")
    return {"wall": wall, "cpu": cpu, "status": status, "stderr": text}


def main() -> None:
    """Measure commands until end of file."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(measure(request["argv"], request["env"])), flush=True)


if __name__ == "__main__":
    main()
