"""The same work in several processes at once."""

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

_CONTEXT = multiprocessing.get_context("fork")


class Elapsed(NamedTuple):
    """Seconds from the common start to the last end, and of CPU in all processes."""

    wall: float
    cpu: float


def at_once(prepares: Sequence[Callable[[], Callable[[], None]]]) -> Elapsed:
    """Return what one process per item takes to run what the item gives; the item itself is free.

    Raise RuntimeError when one of them fails.
    """
    barrier = _CONTEXT.Barrier(len(prepares) + 1)
    costs = _CONTEXT.SimpleQueue()

    def work(prepare: Callable[[], Callable[[], None]]) -> None:
        run = prepare()
        barrier.wait(60)
        before = cpu_s()
        run()
        costs.put((time.perf_counter(), cpu_s() - before))

    processes = [_CONTEXT.Process(target=work, args=(prepare,)) for prepare in prepares]
    for process in processes:
        process.start()
    barrier.wait(60)
    started = time.perf_counter()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a measured process failed")
    ends, cpu = zip(*(costs.get() for _ in processes), strict=True)
    return Elapsed(max(ends) - started, sum(cpu))


def cpu_s() -> float:
    """Return the CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
