"""popbsmtp serve: the resident recorder, from its start to its end."""

import asyncio
import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Final

from popbsmtp_wrap import __version__
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon import service_manager
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.networks import IgnoredNetworks
from popbsmtp_wrap.recorder import startup
from popbsmtp_wrap.recorder.core import RecorderCore
from popbsmtp_wrap.recorder.renewals import WATCH, Renewals
from popbsmtp_wrap.recorder.session_renewal import SessionRenewal
from popbsmtp_wrap.server.handlers import PostLoginHandler, WrapperHandler
from popbsmtp_wrap.server.listeners import Listeners, allowed_uids

_STARTED: Final = time.monotonic()
_ONLY_AT_START: Final = ("spool", "log", "user", "socket_mode", "socket_owner", "socket_group")


def run(load: Callable[[], Settings]) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP calls *load* again.

    Raise ConfigError, RefusedError, ServiceUnavailableError or SpoolBusyError when it cannot
    start, InternalError after a job of it has failed; what the database and the spool do later ends
    nothing.
    """
    startup.fill_standard_descriptors()
    settings = load()
    capacity = startup.raise_descriptor_limit()
    # Everything that may be wrong in the configuration is found before the first login waits.
    allowed_uids(settings)
    listeners = Listeners(service_manager.passed_sockets())
    try:
        listeners.add(settings.recorder)
        if not os.path.isdir(settings.recorder.spool):
            startup.prepare_spool(settings)
        startup.drop_privileges(settings)
        asyncio.run(Service(load, settings, listeners, capacity).serve())
    finally:
        listeners.close()


class Service(RecorderCore):
    """The recorder that a service manager, or a person, runs."""

    def __init__(
        self, load: Callable[[], Settings], settings: Settings, listeners: Listeners, capacity: int
    ) -> None:
        log = EventLog(settings.recorder.log)
        super().__init__(load, settings, allowed_uids(settings), capacity, log)
        self._listeners = listeners
        self._renewals = Renewals(
            settings,
            self._networks,
            self._counts,
            not_taken=self._not_renewed,
            is_refused=self._is_refused,
        )
        self._handlers: dict[str, PostLoginHandler | WrapperHandler] = {}

    async def _begin(self) -> None:
        await self._spool.measure()
        self._sessions = SessionRenewal(self._settings, self._renewals, self._log)
        self._listen()

    def _start_jobs(self) -> None:
        supervisor, queue = self._supervisor, self._queue
        supervisor.start("look", queue.checks.look_around)
        supervisor.start("sessions", self._sessions.run)
        supervisor.watch("commits", queue.oldest_s)
        supervisor.watch("spool", self._spool.oldest_s)
        supervisor.watch("drain", queue.drain.oldest_s)
        supervisor.watch("probe", queue.outages.breaker.oldest_s)
        supervisor.start("watchdog", supervisor.feed_watchdog)
        self._log.event(
            "started", version=__version__, pid=os.getpid(), sockets=",".join(self._handlers)
        )
        self._report_own_addresses()
        service_manager.notify("READY=1", f"STATUS=listening at {' '.join(self._handlers)}")

    async def _renew(self, addresses: list[str]) -> int:
        return await self._renewals.renew(WATCH, addresses, time.monotonic())

    def _not_renewed(self, address: str, error: str) -> None:
        self._log.event("renewal_not_taken", address=address, error=error)

    def status(self) -> dict[str, Any]:
        """Return what `popbsmtp status --json` prints."""
        return {**super().status(), "sessions": self._sessions.status()}

    def _listen(self) -> None:
        """Open and close handlers as the sockets say."""
        recorder, sockets = self._settings.recorder, self._listeners.open
        services = {place.path: place.service for place in recorder.postlogin}
        for path, handler in list(self._handlers.items()):
            if path not in recorder.sockets:
                self._stop_listening_at(path, sockets[path])
                self._listeners.remove(path)
            elif handler.service == services.get(path, ""):
                continue
            del self._handlers[path]
        for path in recorder.sockets:
            if path in self._handlers:
                continue
            if path in services:
                self._handlers[path] = PostLoginHandler(
                    services[path], self, lambda: self._settings.recorder.reply_timeout, self._log
                )
            else:
                self._handlers[path] = WrapperHandler(self, self._supervisor)
            # Nobody can have waited at a socket that this process made for longer than it exists.
            empty_at = _STARTED if self._listeners.is_ours(path) else -math.inf
            self._connections.listen(sockets[path], self._handlers[path], empty_at)
        for path in set(self._listeners.open) - set(recorder.sockets):
            self._log.event("unused_socket", path=path)

    def _stop_listening_at(self, path: str, listener: socket.socket) -> None:
        """Leave a socket that was passed to the next recorder, and serve who waits at ours."""
        if self._listeners.is_ours(path):
            self._connections.accept_rest(listener)
        else:
            self._connections.stop_listening(listener)

    def _stop_listening(self) -> None:
        for path in self._handlers:
            self._stop_listening_at(path, self._listeners.open[path])

    def _change_over(self, settings: Settings, networks: IgnoredNetworks) -> None:
        allowed = allowed_uids(settings)
        for name in _ONLY_AT_START:
            if getattr(settings.recorder, name) != getattr(self._settings.recorder, name):
                self._log.event("restart_needed", key=f"recorder.{name}")
        self._listeners.add(settings.recorder)
        self._renewals.adopt(settings, networks)
        self._connections.allowed = allowed

    def _changed_over(self) -> None:
        self._listen()
        self._sessions.adopt(self._settings)

    def _ending(self) -> None:
        service_manager.notify("STOPPING=1")

    async def _end(self) -> None:
        await super()._end()
        self._renewals.close()
