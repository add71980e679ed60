"""What the recorder has done since it started, for `popbsmtp status`."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

_MINUTE: Final = 60


@dataclass
class Counts:
    """Numbers that only grow; *started* in Unix seconds."""

    started: float = field(default_factory=time.time)
    # Logins by source: wrapper, or postlogin- and the service.
    logins: Counter[str] = field(default_factory=Counter)
    # What became of them: committed, remembered, ignored, shared, spooled, refused.
    outcomes: Counter[str] = field(default_factory=Counter)
    # What came out of the spool again: committed, expired, corrupt.
    drained: Counter[str] = field(default_factory=Counter)
    # Connections that were closed without an answer, by why.
    dropped: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    largest_batch: int = 0
    _seconds: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_MINUTE))

    def login(self, source: str, now: float) -> None:
        """Count a login at *now*, on the monotonic clock."""
        self.logins[source] += 1
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = second, self._seconds[-1][1] + 1
        else:
            self._seconds.append((second, 1))

    def batch(self, size: int) -> None:
        """Count a commit of *size* addresses."""
        self.batches += 1
        self.largest_batch = max(self.largest_batch, size)

    def logins_per_s(self, now: float) -> float:
        """Return the rate of the last full minute, or of the time since the start."""
        # The second that has just begun says nothing yet.
        until = int(now)
        first = until - _MINUTE
        count = sum(n for second, n in self._seconds if first <= second < until)
        return count / max(1.0, min(float(_MINUTE), time.time() - self.started))
