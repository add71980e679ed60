"""What becomes of each line: a login to record, a session that begins or ends, or nothing."""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.logs.event import Event, Kind
from popbsmtp_wrap.logs.forgery import advice, raw_program, syslog_daemons
from popbsmtp_wrap.logs.recogniser import Recogniser
from popbsmtp_wrap.networks import IgnoredNetworks, why_ignored
from popbsmtp_wrap.watch.log_target import WatchLog
from popbsmtp_wrap.watch.observed_login import Clocks, DoubtError, ObservedLogin, age_s
from popbsmtp_wrap.watch.open_sessions import OpenSessions

# Failures concern nobody here.
_KINDS: Final[tuple[Kind, ...]] = ("login", "logout")


class LineHandler:
    """Decides what to do with each line, by the settings in force; all sources share it."""

    def __init__(self, settings: Settings, log: WatchLog, *, record: bool) -> None:
        """With *record* false logins are logged and go nowhere. Raise ConfigError."""
        self.networks = IgnoredNetworks()
        self.sessions = OpenSessions()
        self.counts: Counter[str] = Counter()
        self.log = log
        self._record = record
        self._sources: list[LogSource] = []
        self.settings = settings
        _check(settings)

    def adopt(self, settings: Settings) -> None:
        """Go on with other settings. Raise ConfigError and change nothing if they cannot work."""
        _check(settings)
        now, before = settings.watch, self.settings.watch
        if (now.servers, now.pattern) != (before.servers, before.pattern):
            for source in self._sources:
                source.recogniser = _narrowed(settings, source.servers)
        self.settings = settings

    def source(self, name: str, servers: Collection[str] = ()) -> "LogSource":
        """Return where lines from one file or stream go; *servers* narrows watch.servers."""
        source = LogSource(self, name, servers)
        self._sources.append(source)
        return source

    def due(self, every_s: float) -> list[ObservedLogin]:
        """Return the clients of open sessions that were not seen for *every_s*."""
        longest_s = self.settings.watch.max_session
        found = self.sessions.due(time.monotonic(), every_s, longest_s)
        # The networks may have changed since the login.
        return [s for s in found if self._record and not why_ignored(s.address, self.networks)]

    def login(self, source: str, event: Event, observed: ObservedLogin) -> bool:
        """Tell whether the login is to be recorded."""
        if reason := why_ignored(observed.address, self.networks):
            self.counts["ignored"] += 1
            self.log.debug("ignored", file=source, server=event.server, why=reason)
            return False
        self.counts["logins"] += 1
        if self.settings.watch.max_session:
            self.sessions.login(event.server, observed)
        self.log.debug(
            "login",
            file=source,
            server=event.server,
            address=event.address,
            user=event.user,
            service=event.service,
        )
        return self._record


class LogSource:
    """One file or stream: a recogniser of its own, as lines are joined by process number."""

    def __init__(self, handler: LineHandler, name: str, servers: Collection[str]) -> None:
        self.servers = servers
        self.recogniser = _narrowed(handler.settings, servers)
        self._handler = handler
        self._name = name
        # An entry of the journal is one message, whatever is in it.
        self._is_file = not servers
        self._raw_program = ""
        self._advice = ""

    def read(self, lines: Sequence[bytes], live_since: float | None) -> list[ObservedLogin]:
        """Return the logins to record; *live_since* as in open_log.Piece."""
        now = Clocks(time.time(), time.monotonic())
        found: list[ObservedLogin] = []
        if self.recogniser is None:
            return found
        refused = self._is_forgeable(lines)
        for event in self.recogniser.read(lines):
            if refused:
                self._refuse(event)
            elif event.kind == "logout":
                self._handler.sessions.logout(event.server, event.service, event.address)
            else:
                observed = self._observe(event, now, live_since)
                if observed and self._handler.login(self._name, event, observed):
                    found.append(observed)
        return found

    def _is_forgeable(self, lines: Sequence[bytes]) -> bool:
        """Tell whether an outsider may have written a line among *lines*, or one after them."""
        if self._is_file and not self._raw_program:
            self._raw_program = raw_program(lines)
            if self._raw_program:
                self._advice = advice(syslog_daemons())
                refuses = self._handler.settings.watch.forgeable == "refuse"
                if self._advice:
                    self._handler.log.event(
                        "forgeable_log",
                        file=self._name,
                        program=self._raw_program,
                        logins="refused" if refuses else "recorded",
                        advice=self._advice,
                    )
        return bool(self._advice) and self._handler.settings.watch.forgeable == "refuse"

    def _refuse(self, event: Event) -> None:
        if event.kind == "login":
            self._handler.counts["forgeable"] += 1
            self._handler.log.event(
                "not_recorded", file=self._name, why="forgeable", stamp=event.stamp
            )

    def _observe(self, event: Event, now: Clocks, live_since: float | None) -> ObservedLogin | None:
        try:
            age = age_s(event, now, live_since, self._handler.settings.grace)
        except DoubtError as doubt:
            self._handler.counts[str(doubt)] += 1
            if live_since is not None or str(doubt) == "ahead":
                # A clock or a time zone that differs would go unnoticed.
                self._handler.log.event(
                    "not_recorded", file=self._name, why=str(doubt), stamp=event.stamp
                )
            return None
        user, service = event.user or None, event.service or None
        return ObservedLogin(event.address, user, service, now.monotonic - age)


def new_recogniser(settings: Settings, kinds: Collection[Kind] = _KINDS) -> Recogniser:
    """Return a new one for *kinds*. Raise ConfigError for a server that is unknown."""
    try:
        return Recogniser(settings.watch.servers, settings.watch.pattern, kinds)
    except ValueError as error:
        raise ConfigError(f"watch.servers: {error}") from None


def _check(settings: Settings) -> None:
    """Raise ConfigError for a server that is unknown."""
    new_recogniser(settings)
    for server, _ in settings.watch.journal_units:
        _narrowed(settings, (server,))


def _narrowed(settings: Settings, servers: Collection[str]) -> Recogniser | None:
    """Return a new one for those of *servers* that watch.servers has, too; None for none of them.

    Raise ConfigError for a server that is unknown.
    """
    if not servers:
        return new_recogniser(settings)
    watch = settings.watch
    chosen = [name for name in servers if name in (watch.servers or servers)]
    try:
        return Recogniser(chosen, watch.pattern, _KINDS) if chosen else None
    except ValueError as error:
        raise ConfigError(f"watch.journal_units: {error}") from None
