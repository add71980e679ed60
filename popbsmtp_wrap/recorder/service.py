"""popbsmtp serve: the resident process, from its start to its end."""

import asyncio
import contextlib
import json
import math
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from popbsmtp_wrap import __version__
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.daemon import service_manager
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.daemon.reload import Reloader
from popbsmtp_wrap.daemon.supervisor import Supervisor
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import InternalError, RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.networks import ignored_networks, why_ignored
from popbsmtp_wrap.protocols import admin
from popbsmtp_wrap.recorder import startup
from popbsmtp_wrap.recorder.async_database import AsyncDatabase
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.commit_queue import CommitQueue
from popbsmtp_wrap.recorder.renewals import WATCH, Renewals
from popbsmtp_wrap.recorder.session_renewal import SessionRenewal
from popbsmtp_wrap.recorder.shared_addresses import SharedAddresses
from popbsmtp_wrap.server.connections import Connections
from popbsmtp_wrap.server.handlers import Answer, PostLoginDoor, WrapperDoor
from popbsmtp_wrap.server.listeners import Listeners, allowed_uids

# systemd's TimeoutStopSec is 90 s, but a mailbox waits meanwhile.
_STOPPING_S: Final = 8.0
# Of that, what logins wait for a commit that is under way when the end is asked for.
_HURRY_S: Final = 1.0
# Nobody waits, and main.cf may just have been changed, see ignored_networks().
_POSTCONF_S: Final = 10.0
# An administrator waits for the status, and the answer of a database is a part of it.
_LOOK_S: Final = 1.0
_MOST_SHARED_LISTED: Final = 10
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


class Service:
    """The recorder between its start and its end."""

    def __init__(
        self, load: Callable[[], Settings], settings: Settings, listeners: Listeners, capacity: int
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._log = EventLog(settings.recorder.log)
        self._counts = Counts()
        self._connections = Connections(capacity, allowed_uids(settings), self._log, self._counts)
        self._networks = ignored_networks(settings.ignore, _POSTCONF_S)
        self._database = AsyncDatabase(settings, self._log)
        self._shared = SharedAddresses(settings.recorder.shared_users, settings.grace)
        self._renewals = Renewals(
            settings,
            self._networks,
            self._counts,
            not_taken=self._not_renewed,
            is_refused=self._is_refused,
        )
        self._doors: dict[str, PostLoginDoor | WrapperDoor] = {}
        self._postconf = WorkerThread("postconf", RefusedError)
        self.reloader = Reloader(load, self._adopt, self._log)

    async def serve(self) -> None:
        """Serve until told to stop. Raise SpoolBusyError, or InternalError as run() does."""
        self._supervisor = supervisor = Supervisor(self._log)
        supervisor.listen()
        self.reloader.listen()
        self._spool = AsyncSpool(self._current, self._log, self._counts)
        await self._spool.measure()
        self._queue = queue = CommitQueue(
            self._current, self._database, self._spool, supervisor, self._log, self._counts
        )
        self._connections.after_some = queue.write_at_once
        self._sessions = SessionRenewal(self._settings, self._renewals, self._log)
        self._listen()
        supervisor.start("commits", queue.commit_waiting)
        supervisor.start("spool", self._spool.append_queued)
        supervisor.start("drain", queue.drain.run)
        supervisor.start("probe", queue.breaker.probe_while_down)
        supervisor.start("look", queue.checks.look_around)
        supervisor.start("verify", queue.checks.verify_remembered)
        supervisor.start("reload", self.reloader.run)
        supervisor.start("sessions", self._sessions.run)
        supervisor.watch("commits", queue.oldest_s)
        supervisor.watch("spool", self._spool.oldest_s)
        supervisor.watch("drain", queue.drain.oldest_s)
        supervisor.watch("probe", queue.breaker.oldest_s)
        supervisor.start("watchdog", supervisor.feed_watchdog)
        self._log.event(
            "started", version=__version__, pid=os.getpid(), sockets=",".join(self._doors)
        )
        self._report_own_addresses()
        service_manager.notify("READY=1", f"STATUS=listening at {' '.join(self._doors)}")
        await supervisor.ended()
        service_manager.notify("STOPPING=1")
        await self._end()
        if supervisor.failed:
            raise InternalError("a job of the recorder has failed; see event=unexpected in its log")

    def _current(self) -> Settings:
        """Return the settings in force."""
        return self._settings

    @property
    def grace_s(self) -> int:
        """How long a login counts."""
        return self._settings.grace

    def login(self, source: str, login: Login, answer: Answer) -> None:
        """Queue *login* unless its address never counts; call *answer* exactly once."""
        self._counts.login(source, time.monotonic())
        if why_ignored(login.address, self._networks):
            self._counts.outcomes["ignored"] += 1
            answer(None)
        elif login.age_s > self._settings.grace:
            self.not_recorded(source, "too old", f"{login.address} logged in {login.age_s} s ago")
            answer(None)
        elif self._add_to_shared(login):
            self._counts.outcomes["shared"] += 1
            answer(None)
        else:
            self._queue.submit(login, answer)

    def _add_to_shared(self, login: Login) -> bool:
        """Count the user of *login*, report an address of many; return True to refuse the login."""
        now = time.monotonic()
        users = self._shared.add(login, now)
        if not users:
            return False
        refuses = self._settings.recorder.refuse_shared
        if self._shared.is_news(login.address, now):
            recorded = "no" if refuses else "yes"
            self._log.event("shared_address", address=login.address, users=users, recorded=recorded)
        return refuses

    def _is_refused(self, address: str) -> bool:
        """Tell whether logins from *address* are not recorded, because many users share it."""
        refuses = self._settings.recorder.refuse_shared
        return refuses and self._shared.users_if_shared(address, time.monotonic()) > 0

    def _not_renewed(self, address: str, error: str) -> None:
        self._log.event("renewal_not_taken", address=address, error=error)

    def not_recorded(self, source: str, kind: str, reason: str) -> None:
        """Count and log a request that is no login; *kind* is a key of the outcomes."""
        self._counts.outcomes[kind] += 1
        self._log.event("not_recorded", socket=source, error=reason)

    async def control(self, word: str, arguments: list[str]) -> str:
        """Do what an administrator asks and return the answer's text. Raise PopbsmtpError."""
        if word == "status":
            # A database that gives no answer shows in the state, which the commits keep.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._queue.checks.look()
            await self._spool.measure()
            return json.dumps(self.status())
        if word == "renew":
            return str(await self._renewals.renew(WATCH, arguments, time.monotonic()))
        addresses = None if arguments == [admin.ALL] else arguments
        if word == "revoke":
            await self._queue.revoke(addresses)
        else:
            # Whoever has logged in since the row was marked is not forgotten.
            self._queue.recent.write_again(addresses)
        return ""

    def status(self) -> dict[str, Any]:
        """Return what `popbsmtp status --json` prints."""
        counts, queue, spool = self._counts, self._queue, self._spool
        shared = self._shared.shared(time.monotonic())
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started_at": f"{datetime.fromtimestamp(counts.started, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "uptime_s": int(time.time() - counts.started),
            "logins": dict(counts.logins),
            "outcomes": dict(counts.outcomes),
            "logins_per_s": round(counts.logins_per_s(time.monotonic()), 2),
            "batches": counts.batches,
            "largest_batch": counts.largest_batch,
            "waiting": queue.depth(),
            "remembered": len(queue.recent),
            "connections": len(self._connections),
            "dropped": dict(counts.dropped),
            "database": {
                "url": masked(self._settings.database.url),
                "file": self._database.file,
                "state": "up" if queue.breaker.up else "down",
                "error": queue.breaker.trouble,
            },
            "spool": {
                "directory": self._settings.recorder.spool,
                "logins": spool.waiting,
                "bytes": spool.bytes,
                "drained": dict(counts.drained),
                "error": spool.trouble,
            },
            "sessions": self._sessions.status(),
            "shared": {"count": len(shared), "addresses": shared[:_MOST_SHARED_LISTED]},
        }

    def _listen(self) -> None:
        """Open and close doors as the sockets say."""
        recorder, sockets = self._settings.recorder, self._listeners.open
        services = {place.path: place.service for place in recorder.postlogin}
        for path, door in list(self._doors.items()):
            if path not in recorder.sockets:
                self._stop_listening(path, sockets[path])
                self._listeners.remove(path)
            elif door.service == services.get(path, ""):
                continue
            del self._doors[path]
        for path in recorder.sockets:
            if path in self._doors:
                continue
            if path in services:
                self._doors[path] = PostLoginDoor(
                    services[path], self, lambda: self._settings.recorder.reply_timeout, self._log
                )
            else:
                self._doors[path] = WrapperDoor(self, self._supervisor)
            # Nobody can have waited at a socket that this process made for longer than it exists.
            empty_at = _STARTED if self._listeners.is_ours(path) else -math.inf
            self._connections.listen(sockets[path], self._doors[path], empty_at)
        for path in set(self._listeners.open) - set(recorder.sockets):
            self._log.event("unused_socket", path=path)

    def _stop_listening(self, path: str, listener: socket.socket) -> None:
        """Leave a socket that was passed to the next recorder, and serve who waits at ours."""
        if self._listeners.is_ours(path):
            self._connections.accept_rest(listener)
        else:
            self._connections.stop_listening(listener)

    async def _adopt(self, settings: Settings) -> None:
        """Go on with *settings*. Raise PopbsmtpError and change nothing when they cannot work."""
        for name in _ONLY_AT_START:
            if getattr(settings.recorder, name) != getattr(self._settings.recorder, name):
                self._log.event("restart_needed", key=f"recorder.{name}")
        allowed, database = allowed_uids(settings), AsyncDatabase(settings, self._log)
        networks = await self._postconf.run(partial(ignored_networks, settings.ignore, _POSTCONF_S))
        self._listeners.add(settings.recorder)
        self._renewals.adopt(settings, networks)
        self._settings, self._networks, self._database = settings, networks, database
        self._connections.allowed = allowed
        self._shared.adopt(settings.recorder.shared_users, settings.grace)
        self._listen()
        self._sessions.adopt(settings)
        self._queue.adopt(database)
        self._log.event("reloaded")
        self._report_own_addresses()

    def _report_own_addresses(self) -> None:
        if self._networks.trouble:
            self._log.event("own_addresses_unknown", error=self._networks.trouble)

    async def _end(self) -> None:
        """Answer whoever has asked; what is not in the table then is in the spool."""
        for path in self._doors:
            self._stop_listening(path, self._listeners.open[path])
        loop = asyncio.get_running_loop()
        hurry = loop.call_later(_HURRY_S, self._queue.hurry)
        await self._connections.finish(_STOPPING_S / 2)
        hurry.cancel()
        await self._queue.close(_STOPPING_S / 2)
        await self._supervisor.cancel()
        self._renewals.close()
        parts: list[AsyncSpool | AsyncDatabase] = [self._spool]
        # One that is down would be waited for in vain, and mailboxes wait for the next recorder.
        if self._queue.breaker.up:
            parts.append(self._database)
        for part in parts:
            try:
                async with asyncio.timeout(_STOPPING_S / 4):
                    await part.close()
            except TimeoutError:
                self._log.event("not_closed", part=type(part).__name__)
