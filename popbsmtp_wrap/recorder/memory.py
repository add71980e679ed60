"""The addresses that were written a moment ago: phones log in all the time."""

from typing import Final

# About 200 bytes each.
MOST_REMEMBERED: Final = 50_000
# How many somebody looks after at a time.
_MOST_AT_ONCE: Final = 1000


class Memory:
    """Which addresses were written less than *refresh_s* seconds ago; bounded."""

    def __init__(self, refresh_s: float, most: int = MOST_REMEMBERED) -> None:
        """Beyond *most* addresses the one that was written first is forgotten."""
        self.refresh_s = refresh_s
        self._most = most
        self._written: dict[str, float] = {}
        self._hits: set[str] = set()

    def __len__(self) -> int:
        """Return how many addresses are remembered, some of them perhaps for too long."""
        return len(self._written)

    def add(self, address: str, since: float) -> None:
        """Remember that *address* is in the table as seen at *since*, on the monotonic clock."""
        since = max(since, self._written.pop(address, since))
        self._written[address] = since
        if len(self._written) > self._most:
            del self._written[next(iter(self._written))]

    def holds(self, address: str, moment: float) -> bool:
        """Tell whether a login of *address* at *moment* needs no writing, see take_hits() then.

        So it is just after one that was written, and at any time before it.
        """
        since = self._written.get(address)
        if since is None or moment - since >= self.refresh_s:
            return False
        self._hits.add(address)
        return True

    def take_hits(self) -> list[str]:
        """Return some addresses that needed no writing since the last time."""
        return [self._hits.pop() for _ in range(min(len(self._hits), _MOST_AT_ONCE))]

    def forget(self, address: str) -> None:
        """Have the next login of *address* written."""
        self._written.pop(address, None)

    def clear(self) -> None:
        """Have the next login of every address written."""
        self._written.clear()
