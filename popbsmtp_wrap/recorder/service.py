"""popbsmtp serve: the resident process, from its start to its end."""

import asyncio
import json
import os
import pwd
import resource
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from popbsmtp_wrap import __version__
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import ConfigError, PopbsmtpError, RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.networks import ignored_networks, why_ignored
from popbsmtp_wrap.passwords import masked
from popbsmtp_wrap.recorder import control, systemd
from popbsmtp_wrap.recorder.connections import Connections
from popbsmtp_wrap.recorder.counts import Counts
from popbsmtp_wrap.recorder.database import Database
from popbsmtp_wrap.recorder.desk import Desk
from popbsmtp_wrap.recorder.doors import PostLoginDoor, WrapperDoor
from popbsmtp_wrap.recorder.entry import Answer
from popbsmtp_wrap.recorder.listeners import Listeners, allowed_uids, user_of
from popbsmtp_wrap.recorder.log import Log
from popbsmtp_wrap.recorder.renewals import WATCH, Renewals
from popbsmtp_wrap.recorder.sessions import OpenSessions
from popbsmtp_wrap.recorder.spooling import Spooling
from popbsmtp_wrap.spool import directory

# About 3 kB each.
_MOST_CONNECTIONS: Final = 4096
# For files, the database, and peers that are refused.
_OTHER_DESCRIPTORS: Final = 128
# systemd's TimeoutStopSec is 90 s, but a mailbox waits meanwhile.
_STOPPING_S: Final = 8.0
# Nobody waits, and main.cf may just have been changed, see ignored_networks().
_POSTCONF_S: Final = 10.0
_ONLY_AT_START: Final = ("spool", "log", "user")


def run(load: Callable[[], Settings]) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP calls *load* again.

    Raise ConfigError, RefusedError, ServiceUnavailableError or SpoolBusyError when it cannot
    start; what the database and the spool do later ends nothing.
    """
    _fill_standard_descriptors()
    settings = load()
    capacity = _raise_descriptor_limit()
    # Everything that may be wrong in the configuration is found before the first login waits.
    allowed_uids(settings)
    listeners = Listeners(systemd.passed_sockets())
    try:
        listeners.add(settings.recorder)
        if not os.path.isdir(settings.recorder.spool):
            _prepare_spool(settings)
        _drop_privileges(settings)
        asyncio.run(Service(load, settings, listeners, capacity).serve())
    finally:
        listeners.close()


class Service:
    """The recorder between its start and its end."""

    def __init__(
        self, load: Callable[[], Settings], settings: Settings, listeners: Listeners, capacity: int
    ) -> None:
        self._load = load
        self._settings = settings
        self._listeners = listeners
        self._log = Log(settings.recorder.log)
        self._counts = Counts()
        self._connections = Connections(capacity, allowed_uids(settings), self._log, self._counts)
        self._networks = ignored_networks(settings.ignore, _POSTCONF_S)
        self._database = Database(settings)
        self._renewals = Renewals(settings, self._networks, self._counts)
        self._doors: dict[str, PostLoginDoor | WrapperDoor] = {}
        self._stop = asyncio.Event()
        self._reload = asyncio.Event()

    async def serve(self) -> None:
        """Serve until told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        loop.set_exception_handler(self._unexpected)
        self._spooling = Spooling(self._settings, self._log, self._counts)
        await self._spooling.measure()
        self._desk = Desk(self._settings, self._database, self._spooling, self._log, self._counts)
        self._connections.after_some = self._desk.write_at_once
        self._sessions = OpenSessions(self._settings, self._renewals, self._log)
        self._listen()
        jobs = (self._reloading, self._watchdog, self._sessions.run)
        tasks = [asyncio.create_task(job()) for job in jobs]
        self._log.event(
            "started", version=__version__, pid=os.getpid(), sockets=",".join(self._doors)
        )
        self._report_own_addresses()
        systemd.notify("READY=1", f"STATUS=listening at {' '.join(self._doors)}")
        await self._stop.wait()
        systemd.notify("STOPPING=1")
        for task in tasks:
            task.cancel()
        await self._end()

    def login(self, source: str, login: Login, answer: Answer) -> None:
        """Have *login* recorded unless its address never counts; *answer* hears of it once."""
        self._counts.login(source, time.monotonic())
        if why_ignored(login.address, self._networks):
            self._counts.outcomes["ignored"] += 1
            answer(None)
        else:
            self._desk.submit(login, answer)

    async def control(self, word: str, arguments: list[str]) -> str:
        """Do what an administrator asks and return the answer's text. Raise PopbsmtpError."""
        if word == "status":
            await self._spooling.measure()
            return json.dumps(self.status())
        if word == "renew":
            return str(await self._renewals.renew(WATCH, arguments, time.monotonic()))
        addresses = None if arguments == [control.ALL] else arguments
        if word == "revoke":
            await self._desk.revoke(addresses)
        else:
            self._desk.revoked(addresses)
        return ""

    def status(self) -> dict[str, Any]:
        """Return what `popbsmtp status --json` prints."""
        counts, desk, spooling = self._counts, self._desk, self._spooling
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
            "waiting": desk.depth(),
            "remembered": len(desk.memory),
            "connections": len(self._connections),
            "dropped": dict(counts.dropped),
            "database": {
                "url": masked(self._settings.database.url),
                "state": "up" if desk.up else "down",
                "error": desk.trouble,
            },
            "spool": {
                "directory": self._settings.recorder.spool,
                "logins": spooling.waiting,
                "bytes": spooling.bytes,
                "drained": dict(counts.drained),
                "error": spooling.trouble,
            },
            "sessions": self._sessions.status(),
        }

    def _listen(self) -> None:
        """Open and close doors as the sockets say."""
        recorder, sockets = self._settings.recorder, self._listeners.open
        for path in set(self._doors) - set(recorder.sockets):
            del self._doors[path]
            self._connections.stop_listening(sockets[path])
            self._listeners.remove(path)
        services = {place.path: place.service for place in recorder.postlogin}
        for path in recorder.sockets:
            if path in self._doors:
                continue
            door: PostLoginDoor | WrapperDoor
            if path in services:
                door = PostLoginDoor(
                    services[path], self, lambda: self._settings.recorder.reply_timeout, self._log
                )
            else:
                door = WrapperDoor(self)
            self._doors[path] = door
            self._connections.listen(sockets[path], door)
        for path in set(sockets) - set(recorder.sockets):
            self._log.event("unused_socket", path=path)

    async def _reloading(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            systemd.reloading()
            try:
                await self._adopt(self._load())
            except PopbsmtpError as error:
                self._log.event("reload_failed", error=error)
            systemd.notify("READY=1")

    async def _adopt(self, settings: Settings) -> None:
        """Go on with *settings*. Raise PopbsmtpError and change nothing when they cannot work."""
        for name in _ONLY_AT_START:
            if getattr(settings.recorder, name) != getattr(self._settings.recorder, name):
                self._log.event("restart_needed", key=f"recorder.{name}")
        allowed, database = allowed_uids(settings), Database(settings)
        networks = await asyncio.to_thread(ignored_networks, settings.ignore, _POSTCONF_S)
        self._listeners.add(settings.recorder)
        self._renewals.adopt(settings, networks)
        self._settings, self._networks, self._database = settings, networks, database
        self._connections.allowed = allowed
        self._spooling.adopt(settings)
        self._listen()
        self._sessions.adopt(settings)
        await self._desk.adopt(settings, database)
        self._log.event("reloaded")
        self._report_own_addresses()

    def _report_own_addresses(self) -> None:
        if self._networks.trouble:
            self._log.event("own_addresses_unknown", error=self._networks.trouble)

    def _unexpected(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log what no code of ours has expected; the other logins go on."""
        error = context.get("exception")
        self._log.event("unexpected", what=context["message"], error=error and repr(error))

    async def _watchdog(self) -> None:
        """Tell the service manager that the loop turns."""
        limit_s = systemd.watchdog_s()
        while limit_s is not None:
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(limit_s / 3)

    async def _end(self) -> None:
        """Answer whoever has asked; what is not in the table then is in the spool."""
        for path in self._doors:
            listener = self._listeners.open[path]
            if self._listeners.is_ours(path):
                self._connections.accept_rest(listener)
            else:
                self._connections.stop_listening(listener)
        await self._connections.finish(_STOPPING_S / 2)
        await self._desk.close(_STOPPING_S / 2)
        self._renewals.close()
        for part in (self._spooling, self._database):
            try:
                async with asyncio.timeout(_STOPPING_S / 4):
                    await part.close()
            except TimeoutError:
                self._log.event("not_closed", part=type(part).__name__)


def _fill_standard_descriptors() -> None:
    """Keep sockets and the database away from 0, 1 and 2 where those are closed: 2 is the log."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error
        pass
    os.close(null)


def _raise_descriptor_limit() -> int:
    """Return how many connections fit, after RLIMIT_NOFILE was raised as far as needed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OTHER_DESCRIPTORS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(_MOST_CONNECTIONS, soft - _OTHER_DESCRIPTORS))


def _prepare_spool(settings: Settings) -> None:
    """Create the spool where that is permitted; Spooling reports what is wrong with it."""
    owner = settings.recorder.user if os.geteuid() == 0 else ""
    try:
        directory.prepare(settings.recorder.spool, owner)
    except ConfigError:
        raise
    except PopbsmtpError:
        pass


def _drop_privileges(settings: Settings) -> None:
    """Become recorder.user, where root has started us and it is set. Raise RefusedError."""
    uid, gid = user_of(settings.recorder)
    if os.geteuid() != 0 or uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise RefusedError(f"cannot become {settings.recorder.user}: {error.strerror}") from None
