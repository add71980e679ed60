"""Addresses whose rows somebody else's transaction holds."""

from collections.abc import Callable, Iterable
from typing import Final

from popbsmtp_wrap.daemon.backoff import Backoff

# About 300 bytes each; with more of them it is the table that is locked.
_MOST: Final = 10_000


class LockedRows:
    """Which addresses not to try yet: a lock that is waited for delays everybody else."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """*clock* returns seconds that only grow."""
        self._clock = clock
        self._until: dict[str, tuple[float, Backoff]] = {}

    def __len__(self) -> int:
        """Return how many addresses were locked when last tried."""
        return len(self._until)

    def add(self, address: str) -> bool:
        """Leave *address* alone for a while; return True if it was not locked before."""
        known = self._until.get(address)
        if known is None and len(self._until) >= _MOST:
            return True
        backoff = known[1] if known else Backoff()
        self._until[address] = (self._clock() + backoff.next_s(), backoff)
        return known is None

    def holds(self, address: str) -> bool:
        """Return True while *address* is not to be tried."""
        known = self._until.get(address)
        return known is not None and self._clock() < known[0]

    def discard(self, address: str) -> None:
        """Try *address* at once from now on: it was written, refused, or revoked."""
        self._until.pop(address, None)

    def forget(self, addresses: Iterable[str] | None = None) -> None:
        """Try *addresses*, None for all, at once from now on."""
        for address in list(self._until) if addresses is None else addresses:
            self.discard(address)

    def next_s(self, addresses: Iterable[str]) -> float | None:
        """Return the seconds until one of *addresses* is to be tried, None when none is locked."""
        known = [self._until[address][0] for address in addresses if address in self._until]
        return max(0.0, min(known) - self._clock()) if known else None
