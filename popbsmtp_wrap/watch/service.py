"""popbsmtp watch: the resident process, from its start to its end."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from popbsmtp_wrap import __version__
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon import service_manager
from popbsmtp_wrap.daemon.reload import Reloader
from popbsmtp_wrap.daemon.supervisor import Job, Supervisor
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import InternalError, RefusedError
from popbsmtp_wrap.logs.checkpoint import Checkpoint, Positions
from popbsmtp_wrap.logs.tail import INTERVAL_S, Tail
from popbsmtp_wrap.networks import IgnoredNetworks, ignored_networks
from popbsmtp_wrap.watch import journal
from popbsmtp_wrap.watch.line_handler import LineHandler, LogSource
from popbsmtp_wrap.watch.log_target import WatchLog
from popbsmtp_wrap.watch.stdin import StandardInput
from popbsmtp_wrap.watch.submission import Submission

STANDARD_INPUT: Final = "-"
JOURNAL: Final = "journal"
# How often what is done with goes to disk; after a crash as much is read again.
_SAVE_S: Final = 1.0
# Three times within the shortest grace that somebody would choose.
_RENEW_S: Final = 5.0
# What is under way at the end gets so long.
_STOPPING_S: Final = 5.0
_END_LOOK_S: Final = 0.02
# journalctl ends with the journal's rotation on some machines, and where it is not there.
_JOURNAL_PAUSE_S: Final = 2.0
# After an error that nobody has thought of.
_AGAIN_S: Final = 1.0
# Nobody waits, and main.cf may just have been changed, see ignored_networks().
_POSTCONF_S: Final = 10.0


class WatchService:
    """The watcher between its start and its end."""

    def __init__(
        self, load: Callable[[], Settings], log: WatchLog, state: Checkpoint | None
    ) -> None:
        """*load* gives the settings, again after SIGHUP. Without *state* nothing is recorded.

        Raise ConfigError.
        """
        self._settings = load()
        self._log = log
        self._state = state
        self._submission = Submission(self._settings, log)
        self._handler = LineHandler(self._settings, log, record=state is not None)
        self._followed: dict[str, Tail] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._postconf = WorkerThread("postconf", RefusedError)
        # When each file was last looked at, on the monotonic clock.
        self._looked: dict[str, float] = {}
        self._reloader = Reloader(load, self._adopt, log)
        self._saved: Positions | None = None

    async def watch(self, started: Callable[[], None]) -> None:
        """Watch until told to stop, or until the standard input ends where it is all there is.

        *started* is called once it does. Raise InternalError after a job of it has failed.
        """
        self._supervisor = supervisor = Supervisor(self._log)
        supervisor.listen()
        self._reloader.listen()
        self._handler.networks = await self._networks(self._settings)
        self._positions = self._state.load() if self._state else Positions()
        self._follow()
        supervisor.start("reload", self._reloader.run)
        supervisor.start("renewals", self._renewing)
        supervisor.start("positions", self._saving)
        supervisor.watch("files", self._oldest_look_s)
        supervisor.start("watchdog", supervisor.feed_watchdog)
        self._log.event(
            "started", version=__version__, pid=os.getpid(), files=",".join(self._tasks)
        )
        started()
        service_manager.notify("READY=1", f"STATUS=following {' '.join(self._tasks)}")
        await supervisor.ended()
        service_manager.notify("STOPPING=1")
        await self._end()
        await supervisor.cancel()
        if supervisor.failed:
            raise InternalError("a job of the watcher has failed; see event=unexpected in its log")

    def _follow(self) -> None:
        """Follow the files that the settings name, and no others."""
        watch = self._settings.watch
        wanted = (*watch.files, JOURNAL) if watch.journal else watch.files
        for path in set(self._tasks) - set(wanted):
            self._tasks.pop(path).cancel()
            self._looked.pop(path, None)
            if path in self._followed:
                self._followed.pop(path).close()
        for path in wanted:
            if path not in self._tasks:
                self._tasks[path] = self._supervisor.start(path, self._job(path), may_end=True)

    def _job(self, path: str) -> Job:
        if path == JOURNAL:
            return self._follow_journal
        return self._read_stream if path == STANDARD_INPUT else partial(self._follow_file, path)

    async def _follow_file(self, path: str) -> None:
        source = self._handler.source(path)
        while not self._supervisor.ending:
            places = self._positions.files.get(path)
            recent = time.time() - self._settings.grace
            since = recent if places is None else max(recent, self._positions.saved - _SAVE_S)
            followed = Tail(path, places, since)
            self._followed[path] = followed
            try:
                await self._follow_through(path, followed, source)
            except Exception as error:  # noqa: BLE001 - one file; it is read on, and so are others
                self._log.unexpected(path, error)
                self._positions.files[path] = followed.places
                self._positions.saved = 0.0
                followed.close()
                await asyncio.sleep(_AGAIN_S)

    async def _follow_through(self, path: str, followed: Tail, source: LogSource) -> None:
        trouble = None
        while not self._supervisor.ending:
            for piece in followed.look():
                self._looked.pop(path, None)
                logins = source.read(piece.lines, piece.live_since)
                if logins:
                    await self._submission.deliver(logins)
                piece.done()
                if self._supervisor.ending:
                    return
                # A backlog holds up neither the other files nor signals.
                await asyncio.sleep(0)
            while followed.lost:
                self._log.event("lines_missed", file=path, error=followed.lost.pop())
            if followed.trouble != trouble:
                trouble = followed.trouble
                self._log.event("no_file" if trouble else "file_back", file=path, error=trouble)
            self._looked[path] = time.monotonic()
            await asyncio.sleep(INTERVAL_S)

    def _oldest_look_s(self) -> float:
        """Return how long ago a file was looked at; one whose logins are delivered is not idle."""
        now = time.monotonic()
        return max((now - looked for looked in self._looked.values()), default=0.0)

    async def _read_stream(self) -> None:
        stream, source = StandardInput(0), self._handler.source(STANDARD_INPUT)
        try:
            async for lines, live_since in stream.pieces():
                if logins := source.read(lines, live_since):
                    await self._submission.deliver(logins)
        except OSError as error:
            self._log.event("no_file", file=STANDARD_INPUT, error=error.strerror)
        self._log.event("end_of_input")
        if set(self._tasks) == {STANDARD_INPUT}:
            self._supervisor.stop()

    async def _follow_journal(self) -> None:
        sources = {
            unit: self._handler.source(JOURNAL, (server,))
            for server, units in self._settings.watch.journal_units
            for unit in units
        }
        follow = False
        while not self._supervisor.ending:
            since = time.time() - self._settings.grace
            words = journal.command(sources, self._positions.journal, since, follow=follow)
            error: str | None = None
            try:
                async for entries in journal.entries(words):
                    found = []
                    for entry in entries:
                        if source := sources.get(entry.unit):
                            found += source.read([entry.line], None)
                    await self._submission.deliver(found)
                    self._positions.journal = entries[-1].cursor
            except OSError as trouble:
                error = trouble.strerror or str(trouble)
            except Exception as trouble:  # noqa: BLE001 - the journal is read on, and so are files
                self._log.unexpected(JOURNAL, trouble)
                error = repr(trouble)
            if (follow or error) and not self._supervisor.ending:
                self._log.event("no_journal", error=error or "journalctl has ended")
                await asyncio.sleep(_JOURNAL_PAUSE_S)
            # What was logged before the machine's last start comes first, and by itself.
            follow = not follow

    async def _renewing(self) -> None:
        """Have the rows of open sessions renewed every sessions.renew."""
        while True:
            every_s = self._settings.renew
            await asyncio.sleep(min(_RENEW_S, every_s / 2 or _RENEW_S))
            due = self._handler.due(every_s) if every_s else []
            if due:
                missed = await self._submission.renew([observed.address for observed in due])
                self._handler.sessions.not_renewed(missed)
                if renewed := len(due) - len(missed):
                    self._log.event("renewed", addresses=renewed, open=len(self._handler.sessions))

    async def _adopt(self, settings: Settings) -> None:
        """Go on with *settings*. Raise PopbsmtpError and change nothing when they cannot work."""
        networks = await self._networks(settings)
        self._handler.adopt(settings)
        if settings.watch.state != self._settings.watch.state:
            self._log.event("restart_needed", key="watch.state")
        self._settings = self._submission.settings = settings
        self._handler.networks = networks
        self._follow()
        self._log.event("reloaded", files=",".join(self._tasks))

    async def _networks(self, settings: Settings) -> IgnoredNetworks:
        networks = await self._postconf.run(partial(ignored_networks, settings.ignore, _POSTCONF_S))
        if networks.trouble:
            self._log.event("own_addresses_unknown", error=networks.trouble)
        return networks

    async def _saving(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_S)
            self._save()

    def _save(self) -> None:
        if self._state is None:
            return
        files = {path: followed.places for path, followed in self._followed.items()}
        # A file that is not there now goes on where it was, should it come back.
        kept = {
            path: places for path, places in self._positions.files.items() if path in self._tasks
        }
        files = kept | {path: places for path, places in files.items() if places}
        positions = Positions(files, self._positions.journal)
        if positions == self._saved:
            return
        try:
            self._state.save(positions)
        except OSError as error:
            self._log.event("position_not_saved", error=error.strerror)
        else:
            self._saved = replace(positions)

    async def _end(self) -> None:
        """Finish what is under way, within _STOPPING_S, and keep how far it came."""
        self._submission.stopping = True
        deadline = time.monotonic() + _STOPPING_S
        files = [self._tasks[path] for path in self._followed]
        while time.monotonic() < deadline:
            if not self._submission.under_way and all(task.done() for task in files):
                break
            await asyncio.sleep(_END_LOOK_S)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._save()
        for followed in self._followed.values():
            followed.close()
        self._log.event("stopped", logins=self._submission.delivered)
