"""The logins that wait for the next commit."""

import time
from collections.abc import Iterator

from popbsmtp_wrap.recorder.async_database import Seen
from popbsmtp_wrap.recorder.pending_login import PendingLogin


class WaitingLogins:
    """One PendingLogin for each address, in the order in which the addresses came."""

    def __init__(self) -> None:
        self._logins: dict[str, PendingLogin] = {}
        self._since = 0.0

    def __len__(self) -> int:
        return len(self._logins)

    def __iter__(self) -> Iterator[PendingLogin]:
        return iter(self._logins.values())

    def get(self, address: str) -> PendingLogin | None:
        """Return what waits for *address*, None if nothing does."""
        return self._logins.get(address)

    def add(self, pending: PendingLogin) -> bool:
        """Add *pending*, merged with what waits for its address; return True if it is the first."""
        if known := self._logins.get(pending.login.address):
            known.merge(pending)
            return False
        if not self._logins:
            self._since = time.monotonic()
        self._logins[pending.login.address] = pending
        return len(self._logins) == 1

    def seen(self) -> list[Seen]:
        """Return all of them as a batch to write."""
        return [Seen(pending.login, pending.since) for pending in self]

    def take(self, count: int) -> list[PendingLogin]:
        """Return the first *count* and remove them."""
        addresses = [address for address, _ in zip(self._logins, range(count), strict=False)]
        self._since = time.monotonic()
        return [self._logins.pop(address) for address in addresses]

    def take_all(self) -> list[PendingLogin]:
        """Return all of them and remove them."""
        return self.take(len(self._logins))

    def waited_s(self) -> float:
        """Return for how long something has waited that take() has left or not been asked for."""
        return time.monotonic() - self._since if self._logins else 0.0
