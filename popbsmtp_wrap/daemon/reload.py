"""Read the configuration again at SIGHUP, while the event loop goes on."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from popbsmtp_wrap.daemon import service_manager
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import ConfigError, PopbsmtpError

Settings = TypeVar("Settings")
# A file is read in milliseconds; a FIFO in its place, or a dead NFS server, never answers.
_LONGEST_S: Final = 5.0


class Reloader(Generic[Settings]):
    """Has a service adopt its configuration again. Whatever is wrong with it changes nothing."""

    def __init__(
        self,
        load: Callable[[], Settings],
        adopt: Callable[[Settings], Awaitable[None]],
        log: EventLog,
    ) -> None:
        """*load* may block; *adopt* raises PopbsmtpError for settings that cannot work."""
        self._load = load
        self._adopt = adopt
        self._log = log
        self._asked = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def ask(self) -> None:
        """Have the configuration read soon."""
        self._asked.set()

    def listen(self) -> None:
        """Read it at SIGHUP, also at one that came while the command had it blocked."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])

    async def run(self) -> None:
        """Read it whenever asked; a job."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read it now."""
        async with self._one_at_a_time:
            service_manager.reloading()
            self._log.reopen()
            try:
                await self._adopt(await self._load_beside())
            except PopbsmtpError as error:
                self._log.event("reload_failed", error=error)
            except Exception as error:  # noqa: BLE001 - the settings in force still work
                self._log.unexpected("reload", error)
                self._log.event("reload_failed", error=repr(error))
            service_manager.notify("READY=1")

    async def _load_beside(self) -> Settings:
        # Each time another thread: one that hangs must not be in the way of the next reload.
        thread = WorkerThread("reload", ConfigError, self._log)
        try:
            async with asyncio.timeout(_LONGEST_S):
                return await thread.run(self._load)
        except TimeoutError:
            raise ConfigError(f"the configuration cannot be read within {_LONGEST_S:g} s") from None
        finally:
            thread.end()
