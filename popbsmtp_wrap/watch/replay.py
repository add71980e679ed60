"""--reprocess: a whole log as if it happened again, each line at its own time."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.line_buffer import LineBuffer
from popbsmtp_wrap.logs.recogniser import Recogniser
from popbsmtp_wrap.logs.timestamps import moment
from popbsmtp_wrap.networks import IgnoredNetworks, why_ignored
from popbsmtp_wrap.watch.observed_login import ObservedLogin

_PIECE: Final = 1 << 18
# Beyond it the address that logged in first is forgotten: it would have expired.
MOST_ADDRESSES: Final = 200_000


@dataclass
class Replay:
    """What a log holds; the clock is the time of the line that was read last."""

    grace_s: int
    networks: IgnoredNetworks
    lines: int = 0
    logins: int = 0
    ignored: int = 0
    without_time: int = 0
    now: float | None = None
    _open: dict[str, tuple[float, Event]] = field(default_factory=dict)
    _why_ignored: dict[str, bool] = field(default_factory=dict)

    def read(
        self,
        recogniser: Recogniser,
        block: bytes,
        clock: float,
        show: Callable[[float, Event], None] | None = None,
    ) -> None:
        """Take the lines of *block*; *clock* is the time now, for stamps without a year.

        *recogniser* gives logins alone. Each is passed to *show*.
        """
        self.lines += block.count(b"\n")
        latest = float("-inf") if self.now is None else self.now
        stamp, when = "", None
        for _, event in recogniser.events(block):
            address = event.address
            if self._is_ignored(address):
                self.ignored += 1
                continue
            # Logins of the same second come one after the other.
            if event.stamp != stamp:
                stamp = event.stamp
                when = moment(stamp, clock) if stamp else None
            if when is None:
                self.without_time += 1
                continue
            self.logins += 1
            if when > latest:
                self.now = latest = when
            self._open.pop(address, None)
            self._open[address] = when, event
            if len(self._open) > MOST_ADDRESSES:
                del self._open[next(iter(self._open))]
            if show:
                show(when, event)

    def open(self, monotonic: float) -> list[ObservedLogin]:
        """Return who may relay at the time of the last login, as if that were *monotonic*."""
        now = self.now or 0.0
        return [
            ObservedLogin(
                address, event.user or None, event.service or None, monotonic - (now - when)
            )
            for address, (when, event) in self._open.items()
            if now - when <= self.grace_s
        ]

    def _is_ignored(self, address: str) -> bool:
        known = self._why_ignored.get(address)
        if known is None:
            known = why_ignored(address, self.networks) is not None
            if len(self._why_ignored) < MOST_ADDRESSES:
                self._why_ignored[address] = known
        return known


def pieces(file: BinaryIO, progress: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the lines of a whole file, piece by piece; *progress* hears how many bytes each had."""
    lines = LineBuffer()
    while data := os.read(file.fileno(), _PIECE):
        yield lines.block(data)
        progress(len(data))


def replay(
    replayed: Replay,
    recogniser: Recogniser,
    file: BinaryIO,
    progress: Callable[[int], None],
    show: Callable[[float, Event], None] | None = None,
) -> None:
    """Have *replayed* take all of *file*."""
    clock = time.time()
    for block in pieces(file, progress):
        replayed.read(recogniser, block, clock, show)
