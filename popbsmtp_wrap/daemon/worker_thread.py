"""A thread for calls that block, beside the event loop."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.errors import PopbsmtpError

Result = TypeVar("Result")


class WorkerThread:
    """Runs one call after the other.

    A daemon thread, not a ThreadPoolExecutor: Python joins the threads of an executor when it ends,
    and a resolver or a disk that hangs would keep the process alive.
    """

    def __init__(
        self, name: str, failure: type[PopbsmtpError], log: EventLog | None = None
    ) -> None:
        """*failure* is raised for errors of a call that are no PopbsmtpError; *log* gets those."""
        self._name = name
        self._log = log
        self._failure = failure
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._pending: set[Future[Any]] = set()
        self._thread: threading.Thread | None = None
        self._ended = False

    @property
    def is_busy(self) -> bool:
        """True while a call runs or waits, also one whose caller has been cancelled."""
        return bool(self._pending)

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return what *call* returns. Raise PopbsmtpError when it fails, or after end()."""
        future = self._submit(call)
        try:
            return await asyncio.wrap_future(future)
        except PopbsmtpError:
            raise
        except Exception as error:
            if self._log is not None and not self._ended:
                self._log.unexpected(f"{self._name} thread", error)
            raise self._failure(f"{type(error).__name__}: {error}") from error

    def run_later(self, call: Callable[[], object]) -> None:
        """Run *call* after the calls so far; nobody waits for it, or hears that it failed."""
        if not self._ended:
            self._submit(call).add_done_callback(lambda future: future.exception())

    def end(self, last: Callable[[], object] | None = None) -> None:
        """End the thread after the calls so far, and then *last*; nobody waits for it."""
        if self._ended:
            return
        if last is not None:
            # Nobody can act on it: what *last* closes goes with the process.
            self.run_later(last)
        self._ended = True
        self._calls.put(None)

    def _submit(self, call: Callable[[], Result]) -> "Future[Result]":
        if self._ended:
            raise self._failure(f"the {self._name} thread takes no calls after its end")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no room for a thread
                self._thread = None
                raise self._failure(f"{self._name}: {error}") from None
        future: Future[Result] = Future()
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        self._calls.put((future, call))
        return future

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            future, call = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - it belongs to the caller
                future.set_exception(error)
            else:
                future.set_result(result)
