"""The recorder that a login has started (wrapper/linger.py): from its start to its idle end.

Standard input is the listening socket, with the first request in its queue. It stays for
wrapper.linger after the last login; with 0, for one login alone, or when its configuration file is
another one by now, it ends when nothing is left to do. What is in the spool by then stays there,
and what neither database nor spool takes is tried for a while. Other recorders, and other users',
may use the same spool.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
from functools import partial
from typing import Any, Final

from popbsmtp_wrap import __version__, config
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import PopbsmtpError, RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.networks import ignored_networks
from popbsmtp_wrap.protocols import admin
from popbsmtp_wrap.recorder import lingering_sockets, startup
from popbsmtp_wrap.recorder.async_database import AsyncDatabase
from popbsmtp_wrap.recorder.commit_queue import CommitQueue
from popbsmtp_wrap.recorder.core import RecorderCore
from popbsmtp_wrap.recorder.pending_login import last_patience_s
from popbsmtp_wrap.server.connection import Connection
from popbsmtp_wrap.server.handlers import Answer, WrapperHandler
from popbsmtp_wrap.wire import format_answer
from popbsmtp_wrap.wrapper.linger import AGAIN, refuse

ONCE: Final = "once"
# One login costs two turns of the loop at least; it has not been idle before.
_SHORTEST_S: Final = 0.1
# How often to look whether what is left to do at the end is done.
_SOON_S: Final = 0.1
# How long a login that neither database nor spool takes is tried.
PATIENCE_S: Final = 25.0
# How long a login that is safe in the spool is still tried where linger is 0: a database that is
# only slow has it by then, and for one that hangs this process is not worth its memory.
_LATE_S: Final = 6.0
# A recorder for each of many users, 40 MB each, must not take the memory of a busy host: those
# beyond this number stay for _CROWDED_S only.
_MOST_LINGERING: Final = 8
_CROWDED_S: Final = 10.0
# Each costs a postconf.
_NETWORKS_S: Final = 60.0
# How often one that idles looks whether wrappers still ask it.
_LOOK_S: Final = 30.0
# And how long a login waits for that look at most.
_LONGEST_LOOK_S: Final = 0.2
# The clients that have waited for the start go first.
_AFTER_S: Final = 1.0
# What a login that has waited for the start of this process is taken for: one of now. Rounded up
# to a second it would lie before a revoke that it follows.
_START_S: Final = 1.0


def main(config_path: str, life: str) -> None:
    """Serve the socket at standard input; *life* is ONCE, or anything else to stay for linger."""
    listener = _take_listener()
    try:
        started_with = config.fingerprint(config_path)
        settings = config.load(config_path)
        signal.alarm(0)
        capacity = startup.raise_descriptor_limit(beyond=True)
        recorder = LingeringRecorder(config_path, started_with, settings, listener, capacity, life)
        asyncio.run(recorder.serve())
    except (PopbsmtpError, OSError) as error:
        refuse(listener, str(error))
    except BaseException as error:
        refuse(listener, f"{type(error).__name__}: {error}")
        raise


def _take_listener() -> socket.socket:
    """Move the socket at standard input to another descriptor, so that no child inherits it."""
    listener = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    return listener


class _Handler(WrapperHandler):
    """Serves logins as long as the configuration is the one that the recorder has read."""

    def __init__(self, recorder: "LingeringRecorder", *arguments: Any, **options: Any) -> None:
        super().__init__(recorder, *arguments, **options)
        self._recorder = recorder

    def serve(self, connection: Connection, request: bytes) -> None:
        """Do as WrapperHandler.serve() does, after a look at the configuration."""
        if admin.is_control(request):
            super().serve(connection, request)
        else:
            self._supervisor.start_request("login", self._serve(connection, request))

    async def _serve(self, connection: Connection, request: bytes) -> None:
        if not await self._recorder.is_current():
            connection.send(format_answer(AGAIN, ""))
            return
        try:
            super().serve(connection, request)
        except ValueError as error:
            connection.refuse(str(error))


class LingeringRecorder(RecorderCore):
    """A recorder that ends when nobody logs in."""

    shares_spool = True
    # Its requests have their time.
    looks_at_queues = False
    # Somebody waits for the first one.
    postconf_s = 2.0

    def __init__(
        self,
        path: str,
        started_with: tuple[object, ...],
        settings: Settings,
        listener: socket.socket,
        capacity: int,
        life: str,
    ) -> None:
        """*settings* come from the configuration at *path*, whose fingerprint is *started_with*."""
        self._once = life == ONCE
        # Standard error is /dev/null.
        log = EventLog("syslog")
        super().__init__(partial(config.load, path), settings, {0, os.geteuid()}, capacity, log)
        self._path = path
        self._listener = listener
        self._crowded = False
        self._is_obsolete = False
        self._last_login = self._networks_read = time.monotonic()
        # What the configuration was, before it was read.
        self._started_with: tuple[object, ...] | None = started_with
        self._read_from = self._started_with
        self._look: asyncio.Future[tuple[object, ...] | None] | None = None
        self._files = WorkerThread("configuration", RefusedError)

    def _new_database(self, settings: Settings) -> AsyncDatabase:
        once = self._once or not settings.wrapper.linger
        return AsyncDatabase(settings, self._log, reopens=True, closes=once)

    def _new_queue(self) -> CommitQueue:
        return CommitQueue(
            self._current,
            self._database,
            self._spool,
            self._supervisor,
            self._log,
            self._counts,
            last_patience_s,
            is_last=True,
        )

    def _stopped(self, lost: int) -> None:
        if lost or self.linger_s:
            super()._stopped(lost)

    async def _begin(self) -> None:
        wait_s = lambda: self._settings.wrapper.wait  # noqa: E731 - it may change
        handler = _Handler(self, self._supervisor, wait_s, prompt_s=_START_S)
        self._connections.listen(self._listener, handler)

    def _start_jobs(self) -> None:
        supervisor = self._supervisor
        retry = partial(self._queue.checks.retry_leftovers, self._spool, self._read_changes)
        supervisor.start("leftovers", retry)
        supervisor.start("idle", self._end_when_idle)
        self._crowded = len(lingering_sockets.names()) > _MOST_LINGERING
        if self.linger_s:
            self._log.event("started", version=__version__, pid=os.getpid(), linger=self.linger_s)
            supervisor.start("left", self._learn_of_spool, may_end=True)

    def _stop_listening(self) -> None:
        # Connected peers are still served; the name is free for the next recorder.
        if self._listener.fileno() >= 0:
            self._connections.accept_rest(self._listener)
            self._listener.close()

    @property
    def linger_s(self) -> float:
        """How long to stay after the last login."""
        if self._once or self._is_obsolete:
            return 0.0
        linger_s = self._settings.wrapper.linger
        return min(linger_s, _CROWDED_S) if self._crowded else linger_s

    def login(self, source: str, login: Login, answer: Answer) -> None:
        """Queue *login* unless its address never counts; call *answer* exactly once."""
        now = self._last_login = time.monotonic()
        if now - self._networks_read > _NETWORKS_S:
            self._networks_read = now
            self._supervisor.start_request("networks", self._read_networks())
        super().login(source, login, answer)

    async def _read_networks(self) -> None:
        """Follow Postfix's mynetworks: nobody reloads a recorder that nobody has started."""
        settings = self._settings
        read = partial(ignored_networks, settings.ignore, RecorderCore.postconf_s)
        networks = await self._postconf.run(read)
        if settings is self._settings:
            self._networks = networks

    def status(self) -> dict[str, Any]:
        """Return what `popbsmtp status --json` prints."""
        linger = {"configuration": self._path, "seconds": self.linger_s}
        return {**super().status(), "linger": linger}

    async def is_current(self) -> bool:
        """Tell whether the configuration is as it was at the start; if not, begin to end."""
        if not self._is_obsolete:
            look = self._look = self._look or asyncio.ensure_future(self._fingerprint())
            # A file server that hangs is no reason to let a client wait.
            done, _ = await asyncio.wait([look], timeout=_LONGEST_LOOK_S)
            if done:
                self._look = None
                self._is_obsolete = look.result() not in (None, self._started_with)
            if self._is_obsolete:
                self._stop_listening()
        return not self._is_obsolete

    async def _fingerprint(self) -> tuple[object, ...] | None:
        """Return that of the configuration, None where there is no room for a thread."""
        with contextlib.suppress(PopbsmtpError):
            return await self._files.run(partial(config.fingerprint, self._path))
        return None

    async def _read_changes(self) -> None:
        """Read the configuration again if it has changed.

        The next login starts another recorder then, but there may be no next one, and what waits
        here is tried as the file says now.
        """
        found = await self._fingerprint()
        if found not in (None, self._read_from):
            self._read_from = found
            await self.reloader.reload()

    async def _end_when_idle(self) -> None:
        """Stop when nobody has logged in for linger, and nothing is left to do; a job."""
        while True:
            idle_s = time.monotonic() - self._last_login
            left_s = max(self.linger_s, _SHORTEST_S) - idle_s
            if left_s > 0:
                await asyncio.sleep(min(left_s, _LOOK_S))
                await self.is_current()
            elif self._is_done(idle_s):
                self._supervisor.stop()
                return
            else:
                await asyncio.sleep(_SOON_S if idle_s < self.linger_s + 1 else 1.0)

    async def _learn_of_spool(self) -> None:
        """Have what others have left in the spool written, after the first login; a job."""
        await asyncio.sleep(_AFTER_S)
        await self._spool.measure()
        if self._spool.waiting:
            self._queue.fallback.was_used.set()

    def _is_done(self, idle_s: float) -> bool:
        """Tell whether nothing is left to do *idle_s* seconds after the last login, or to hope."""
        if len(self._connections):
            return False
        if self._queue.unsafe:
            return idle_s > max(self.linger_s, PATIENCE_S)
        hopes = self._queue.fallback.has_any and not self._queue.checks.makes_no_progress
        if hopes or not self._queue.outages.breaker.up:
            # They count for grace, and cron may drain the spool as well.
            return idle_s > (max(self.linger_s, self.grace_s) if self.linger_s else _LATE_S)
        return True
