"""The jobs of a resident process: what starts them, watches them and ends them.

    supervisor = Supervisor(log)
    supervisor.listen()                             # SIGTERM calls stop()
    supervisor.start("commits", queue.commit)       # runs until the end
    supervisor.watch("logins", queue.oldest_s)      # work that has to make progress
    supervisor.start("watchdog", supervisor.feed_watchdog)
    await supervisor.ended()                        # stop() was called, or a job has failed
    ...                                             # an orderly end
    await supervisor.cancel()

A job that raises, is cancelled or returns before the end is logged with its traceback and ends the
process: without it the process would look alive and do nothing. A callback of the event loop that
raises ends it, too, since nobody knows what it has left undone. The service manager starts another
process. What fails for one connection or one answer costs that one alone: see guard().
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from popbsmtp_wrap.daemon import service_manager
from popbsmtp_wrap.daemon.event_log import EventLog

Job = Callable[[], Coroutine[Any, Any, None]]
# A job that was cancelled has nothing left to wait for.
_CANCEL_S: Final = 1.0
# The manager counts from the last word that it got; sd_watchdog_enabled(3) recommends half.
_FEEDS_PER_LIMIT: Final = 3


class Supervisor:
    """Runs jobs until stop() is called or one of them fails."""

    def __init__(self, log: EventLog) -> None:
        self.failed = False
        self._log = log
        self._jobs: set[asyncio.Task[None]] = set()
        self._ends = asyncio.Event()
        self._progress: dict[str, Callable[[], float]] = {}
        self._stuck = ""

    def listen(self) -> None:
        """Stop at SIGTERM and SIGINT, and fail for what a callback of the event loop raises."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.set_exception_handler(self.loop_error)

    @property
    def ending(self) -> bool:
        """True from stop(), or from the first failure, on."""
        return self._ends.is_set()

    def start(self, name: str, job: Job, *, may_end: bool = False) -> asyncio.Task[None]:
        """Run *job* until the end; with *may_end* it may return, or be cancelled, before."""
        task = asyncio.create_task(job(), name=name)
        self._jobs.add(task)
        task.add_done_callback(partial(self._done, may_end=may_end))
        return task

    def start_request(self, name: str, request: Coroutine[Any, Any, None]) -> None:
        """Run *request*; if it raises, that is logged and costs nothing else."""

        async def guarded() -> None:
            with self.guard(name):
                await request

        self.start(name, guarded, may_end=True)

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Log an exception in this block; it costs *what* and nothing else."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._log.unexpected(what, error)

    def loop_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the process for what a callback raised; see listen()."""
        error = context.get("exception")
        if error is None:
            self._log.event("unexpected", what=context["message"])
        else:
            self._fail(context["message"], error)

    def watch(self, name: str, oldest_s: Callable[[], float]) -> None:
        """Have the watchdog ask *oldest_s* how long the oldest piece of work has waited.

        It returns 0 when nothing waits. What waits for a database or a disk does not count: another
        process would wait as long.
        """
        self._progress[name] = oldest_s

    async def feed_watchdog(self) -> None:
        """Tell the service manager that work goes on, while that is so; a job for start()."""
        limit_s = service_manager.watchdog_s()
        if limit_s is None:
            await self._ends.wait()
            return
        while True:
            stuck = self._stuck_at(limit_s)
            if not stuck:
                service_manager.notify("WATCHDOG=1")
            elif stuck != self._stuck:
                self._log.event("stuck", what=stuck)
            self._stuck = stuck
            await asyncio.sleep(limit_s / _FEEDS_PER_LIMIT)

    def stop(self) -> None:
        """End ended(): somebody wants the process to end."""
        self._ends.set()

    async def ended(self) -> None:
        """Return when stop() was called or a job has failed."""
        await self._ends.wait()

    async def cancel(self) -> None:
        """Cancel all jobs and wait for their end, at most _CANCEL_S."""
        self._ends.set()
        jobs = list(self._jobs)
        for task in jobs:
            task.cancel()
        if jobs:
            _, late = await asyncio.wait(jobs, timeout=_CANCEL_S)
            for task in late:
                self._log.event("not_ended", what=task.get_name())

    def _stuck_at(self, limit_s: float) -> str:
        for name, oldest_s in self._progress.items():
            try:
                if oldest_s() > limit_s:
                    return name
            except Exception as error:  # noqa: BLE001 - as good as no progress
                self._log.unexpected(name, error)
                return name
        return ""

    def _done(self, task: asyncio.Task[None], *, may_end: bool) -> None:
        self._jobs.discard(task)
        cancelled = task.cancelled()
        error = None if cancelled else task.exception()
        if error is None and not (may_end or self.ending):
            how = "was cancelled" if cancelled else "returned"
            error = RuntimeError(f"it {how} before the end")
        if error is not None:
            self._fail(task.get_name(), error)

    def _fail(self, what: str, error: BaseException) -> None:
        self._log.unexpected(what, error)
        self.failed = True
        self._ends.set()
