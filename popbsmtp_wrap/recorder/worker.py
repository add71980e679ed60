"""A thread for what blocks, beside the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from popbsmtp_wrap.errors import PopbsmtpError

Result = TypeVar("Result")


class Worker:
    """One thread that does one thing after the other."""

    def __init__(self, name: str, failure: type[PopbsmtpError]) -> None:
        """What fails in a way that nobody has expected counts as a *failure*."""
        self._thread = ThreadPoolExecutor(1, name)
        self._failure = failure

    async def run(self, work: Callable[[], Result]) -> Result:
        """Return what *work* gives; raise PopbsmtpError when it fails."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, work)
        except PopbsmtpError:
            raise
        except Exception as error:
            raise self._failure(f"{type(error).__name__}: {error}") from error

    def end(self) -> None:
        """End the thread after what has been asked before."""
        self._thread.shutdown(wait=False)
