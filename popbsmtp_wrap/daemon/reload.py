"""Read the configuration again while the event loop goes on."""

import asyncio
import signal
from collections.abc import Callable
from typing import Final, TypeVar

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import ConfigError

Settings = TypeVar("Settings")
# A file is read in milliseconds; a FIFO in its place, or a dead NFS server, never answers.
_LONGEST_S: Final = 5.0


class EarlyReload:
    """Remembers SIGHUP from before the event loop takes it: by default it would end the process."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGHUP, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True


async def load_beside(load: Callable[[], Settings], log: EventLog) -> Settings:
    """Return what *load* returns. Raise its PopbsmtpError; ConfigError when it hangs or fails."""
    # One that hangs must not be in the way of the next reload.
    thread = WorkerThread("reload", ConfigError, log)
    try:
        async with asyncio.timeout(_LONGEST_S):
            return await thread.run(load)
    except TimeoutError:
        raise ConfigError(f"the configuration cannot be read within {_LONGEST_S:g} s") from None
    finally:
        thread.end()
