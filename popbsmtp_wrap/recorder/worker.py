"""A thread for what blocks, beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from popbsmtp_wrap.errors import PopbsmtpError

Result = TypeVar("Result")


class Worker:
    """One thread that does one thing after the other."""

    def __init__(self, name: str, failure: type[PopbsmtpError]) -> None:
        """What fails in a way that nobody has expected counts as a *failure*."""
        self._thread = ThreadPoolExecutor(1, name)
        self._failure = failure
        self._asked: set[Future[Any]] = set()

    @property
    def is_busy(self) -> bool:
        """Tell whether it does something, or is about to; also what nobody waits for any more."""
        return bool(self._asked)

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what *work* gives; raise PopbsmtpError when it fails."""
        try:
            future = self._thread.submit(work)
            self._asked.add(future)
            future.add_done_callback(self._asked.discard)
            return await asyncio.wrap_future(future)
        except PopbsmtpError:
            raise
        except Exception as error:
            raise self._failure(f"{type(error).__name__}: {error}") from error

    def end(self) -> None:
        """End the thread after what has been asked before."""
        self._thread.shutdown(wait=False)
