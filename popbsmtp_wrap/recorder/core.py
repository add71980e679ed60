"""What every recorder does, however it was started: logins in, commits, spool, answers.

service.py is the resident one of `popbsmtp serve`, lingering.py the one that a login has started.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from popbsmtp_wrap import __version__
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.daemon.reload import Reloader
from popbsmtp_wrap.daemon.supervisor import Supervisor
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import InternalError, RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.networks import IgnoredNetworks, ignored_networks, why_ignored
from popbsmtp_wrap.protocols import admin
from popbsmtp_wrap.recorder.async_database import AsyncDatabase
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.commit_queue import CommitQueue
from popbsmtp_wrap.recorder.shared_addresses import SharedAddresses
from popbsmtp_wrap.server.connections import Connections
from popbsmtp_wrap.server.handlers import Answer

# systemd's TimeoutStopSec is 90 s, but a mailbox waits meanwhile.
_STOPPING_S: Final = 8.0
# Of that, what logins wait for a commit that is under way when the end is asked for.
_HURRY_S: Final = 1.0
# An administrator waits for the status, and the answer of a database is a part of it.
_LOOK_S: Final = 1.0
_MOST_SHARED_LISTED: Final = 10


class RecorderCore:
    """A recorder between its start and its end; abstract."""

    # Whether others may use the spool at the same time.
    shares_spool = False
    # Whether requests without a time have to be told how long they have waited.
    looks_at_queues = True
    # How long to wait for postconf: nobody waits, and main.cf may just have been changed, see
    # ignored_networks().
    postconf_s = 10.0

    def __init__(
        self,
        load: Callable[[], Settings],
        settings: Settings,
        allowed: Collection[int],
        capacity: int,
        log: EventLog,
    ) -> None:
        """*load* reads the configuration again; *allowed* are the users who may connect."""
        self._settings = settings
        self._log = log
        self._counts = Counts()
        self._connections = Connections(
            capacity, allowed, self._log, self._counts, looks_at_queues=self.looks_at_queues
        )
        self._networks = ignored_networks(settings.ignore, self.postconf_s)
        self._database = self._new_database(settings)
        self._shared = SharedAddresses(settings.recorder.shared_users, settings.grace)
        self._postconf = WorkerThread("postconf", RefusedError)
        self.reloader = Reloader(load, self._adopt, self._log)

    async def serve(self) -> None:
        """Serve until told to stop. Raise SpoolBusyError, or InternalError after a job failed."""
        self._supervisor = supervisor = Supervisor(self._log)
        supervisor.listen()
        self.reloader.listen()
        self._spool = AsyncSpool(
            self._current, self._log, self._counts, is_shared=self.shares_spool
        )
        self._queue = self._new_queue()
        self._connections.after_some = self._queue.write_at_once
        await self._begin()
        supervisor.start("commits", self._queue.commit_waiting)
        supervisor.start("spool", self._spool.append_queued)
        supervisor.start("drain", self._queue.drain.run)
        supervisor.start("probe", self._queue.outages.breaker.probe_while_down)
        supervisor.start("verify", self._queue.checks.verify_remembered)
        supervisor.start("reload", self.reloader.run)
        self._start_jobs()
        await supervisor.ended()
        self._ending()
        await self._end()
        if supervisor.failed:
            raise InternalError("a job of the recorder has failed; see event=unexpected in its log")

    def _new_database(self, settings: Settings) -> AsyncDatabase:
        """Return the database of *settings*. Raise ConfigError for what cannot work."""
        return AsyncDatabase(settings, self._log)

    def _new_queue(self) -> CommitQueue:
        return CommitQueue(
            self._current, self._database, self._spool, self._supervisor, self._log, self._counts
        )

    async def _begin(self) -> None:
        """Listen. Raise PopbsmtpError."""
        raise NotImplementedError

    def _start_jobs(self) -> None:
        """Start the jobs of this kind of recorder, and report that it is ready."""
        raise NotImplementedError

    def _ending(self) -> None:
        """Report that the recorder is stopping."""

    def _stop_listening(self) -> None:
        """Accept no new connections; those in the queue are still answered."""
        raise NotImplementedError

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
            return str(await self._renew(arguments))
        addresses = None if arguments == [admin.ALL] else arguments
        if word == "revoke":
            await self._queue.revoke(addresses)
        else:
            # Whoever has logged in since the row was marked is not forgotten.
            self._queue.recent.write_again(addresses)
        return ""

    async def _renew(self, addresses: list[str]) -> int:
        """Return how many rows *addresses* with open sessions have, all renewed."""
        raise RefusedError("this recorder renews no sessions; run: popbsmtp serve")

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
                "table": self._settings.database.table,
                "file": self._database.file,
                "state": "up" if queue.outages.breaker.up else "down",
                "error": queue.outages.breaker.trouble,
            },
            "spool": {
                "directory": self._settings.recorder.spool,
                "logins": spool.waiting,
                "bytes": spool.bytes,
                "drained": dict(counts.drained),
                "error": spool.trouble,
            },
            "shared": {"count": len(shared), "addresses": shared[:_MOST_SHARED_LISTED]},
        }

    async def _adopt(self, settings: Settings) -> None:
        """Go on with *settings*. Raise PopbsmtpError and change nothing when they cannot work."""
        database = self._new_database(settings)
        networks = await self._postconf.run(
            partial(ignored_networks, settings.ignore, self.postconf_s)
        )
        self._change_over(settings, networks)
        self._settings, self._networks, self._database = settings, networks, database
        self._shared.adopt(settings.recorder.shared_users, settings.grace)
        self._changed_over()
        self._queue.adopt(database)
        self._log.event("reloaded")
        self._report_own_addresses()

    def _change_over(self, settings: Settings, networks: IgnoredNetworks) -> None:
        """Prepare for *settings*: all that may fail. Raise PopbsmtpError and change nothing."""

    def _changed_over(self) -> None:
        """Pass the new settings on to the other parts."""

    def _report_own_addresses(self) -> None:
        if self._networks.trouble:
            self._log.event("own_addresses_unknown", error=self._networks.trouble)

    def _stopped(self, lost: int) -> None:
        """Report the end; *lost* logins are neither in the table nor in the spool."""
        self._log.event("stopped", lost=lost)

    async def _end(self) -> None:
        """Answer the pending requests; what is not in the table by then goes to the spool."""
        self._stop_listening()
        loop = asyncio.get_running_loop()
        hurry = loop.call_later(_HURRY_S, self._queue.hurry)
        await self._connections.finish(_STOPPING_S / 2)
        hurry.cancel()
        self._stopped(await self._queue.close(_STOPPING_S / 2))
        await self._supervisor.cancel()
        parts: list[AsyncSpool | AsyncDatabase] = [self._spool]
        # One that is down would be waited for in vain, and mailboxes wait for the next recorder.
        if self._queue.outages.breaker.up:
            parts.append(self._database)
        for part in parts:
            try:
                async with asyncio.timeout(_STOPPING_S / 4):
                    await part.close()
            except TimeoutError:
                self._log.event("not_closed", part=type(part).__name__)
