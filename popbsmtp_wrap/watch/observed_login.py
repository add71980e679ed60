"""A login found in a log, and how old it is; pure."""

import re
import time
from dataclasses import dataclass, replace
from typing import Final

from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.timestamps import moment

# A log server's clock may be ahead of ours by this much; spool/timestamp.py allows as much.
MOST_AHEAD_S: Final = 60.0
# What clocks of one machine differ by while one of them is set.
_SLEWING_S: Final = 1.0
_SUMMER_TIME_S: Final = 3600
_ZONED: Final = re.compile(r"(?:Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})$|^@|^[0-9]{10}\.")


class DoubtError(ValueError):
    """Why a line's time does not count: "old", "ahead", "no such time" or "without time"."""


@dataclass(frozen=True, slots=True)
class ObservedLogin:
    """A login at *moment*, seconds on the monotonic clock."""

    address: str
    user: str | None
    service: str | None
    moment: float

    def login(self, now: float) -> Login:
        """Return it as it is at *now*, on the monotonic clock. Raise ValueError for no address."""
        return make_login(self.address, self.user, self.service, now - self.moment)

    def at(self, moment: float) -> "ObservedLogin":
        """Return the same client, seen at another moment."""
        return replace(self, moment=moment)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The same moment on the wall clock and on the monotonic one, in seconds."""

    wall: float
    monotonic: float


def age_s(event: Event, now: Clocks, live_since: float | None, grace_s: float) -> float:
    """Return how many seconds ago *event* was, by its own stamp.

    Without a stamp it was after *live_since*, on the monotonic clock, when its file was last looked
    at before. A stamp ahead of our clock says only that the other clock is: it was after
    *live_since* then, or within MOST_AHEAD_S, never now, or it would undo a revocation. Raise
    DoubtError when it is older than *grace_s*, further ahead than MOST_AHEAD_S, or when nothing
    tells its time.
    """
    if event.stamp:
        when = moment(event.stamp, now.wall)
        if when is None:
            raise DoubtError("no such time")
        if live_since is not None and not _ZONED.search(event.stamp):
            when = _later_of_two(when, now.wall)
        age = now.wall - when
    elif live_since is not None:
        age = now.monotonic - live_since
    else:
        raise DoubtError("without time")
    if age > grace_s:
        raise DoubtError("old")
    if age < -MOST_AHEAD_S:
        raise DoubtError("ahead")
    if age < -_SLEWING_S:
        since_look = MOST_AHEAD_S if live_since is None else now.monotonic - live_since
        return min(since_look, MOST_AHEAD_S)
    return max(0.0, age)


def _later_of_two(when: float, now: float) -> float:
    """Return the second time that the clock showed what it shows at *when*, if that is past.

    At the end of summer time moment() takes the first: half an hour of logins would be an hour old.
    What was just written is the second.
    """
    shown, later = time.localtime(when), time.localtime(when + _SUMMER_TIME_S)
    twice = shown[:6] == later[:6] and shown.tm_isdst != later.tm_isdst
    return when + _SUMMER_TIME_S if twice and when + _SUMMER_TIME_S <= now + MOST_AHEAD_S else when
