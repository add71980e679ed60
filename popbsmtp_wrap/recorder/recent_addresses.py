"""The addresses that were written a moment ago: phones log in every few minutes, or seconds."""

import asyncio
from collections.abc import Collection
from typing import Final, NamedTuple

from popbsmtp_wrap.login import Login

# About 200 bytes each.
MOST_REMEMBERED: Final = 50_000
# How many are verified at a time.
_MOST_AT_ONCE: Final = 1000


class Hit(NamedTuple):
    """A login that was not written, because its address just had been."""

    login: Login
    since: float


class RecentAddresses:
    """Which addresses were written less than *refresh_s* seconds ago; bounded."""

    def __init__(self, refresh_s: float, most: int = MOST_REMEMBERED) -> None:
        """Beyond *most* addresses the one that was written first is forgotten."""
        self.refresh_s = refresh_s
        self._most = most
        self._written: dict[str, float] = {}
        self._hits: dict[str, Hit] = {}
        # Set while take_hits() may return something.
        self.has_hits = asyncio.Event()

    def __len__(self) -> int:
        """Return how many addresses are remembered, some of them perhaps for too long."""
        return len(self._written)

    def add(self, address: str, since: float) -> None:
        """Remember that *address* is in the table as seen at *since*, on the monotonic clock."""
        since = max(since, self._written.pop(address, since))
        self._written[address] = since
        if len(self._written) > self._most:
            del self._written[next(iter(self._written))]

    def covers(self, login: Login, since: float) -> bool:
        """Return True if *login*, *login.age_s* old at *since*, needs no write.

        True for logins up to refresh_s after the written one, and for any earlier login, as long as
        there is room for those that take_hits() has to return.
        """
        written = self._written.get(login.address)
        if written is None or since - login.age_s - written >= self.refresh_s:
            return False
        if len(self._hits) >= self._most and login.address not in self._hits:
            return False
        self.put_back(login.address, Hit(login, since))
        return True

    def take_hits(self) -> dict[str, Hit]:
        """Return some of the latest logins that needed no write since the last call, by address.

        Their rows may have gone meanwhile: they were acknowledged, so somebody has to look.
        """
        found = [address for address, _ in zip(self._hits, range(_MOST_AT_ONCE), strict=False)]
        taken = {address: self._hits.pop(address) for address in found}
        if not self._hits:
            self.has_hits.clear()
        return taken

    def put_back(self, address: str, hit: Hit) -> None:
        """Have take_hits() return *hit* again, unless there is a later one."""
        known = self._hits.get(address)
        if known is None or known.since - known.login.age_s <= hit.since - hit.login.age_s:
            self._hits[address] = hit
            self.has_hits.set()

    def forget(self, addresses: Collection[str] | None) -> None:
        """Have the next login of *addresses*, None for all, written, and none before it."""
        self.write_again(addresses)
        for address in list(self._hits) if addresses is None else addresses:
            self._hits.pop(address, None)

    def write_again(self, addresses: Collection[str] | None) -> None:
        """Have the next login of *addresses*, None for all, written; keep what needed no write."""
        for address in list(self._written) if addresses is None else addresses:
            self._written.pop(address, None)
