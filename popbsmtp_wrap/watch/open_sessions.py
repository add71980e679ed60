"""Sessions that are open, counted from the logins and logouts that a server logs.

A client that stays connected may send as long as it does. A count is only believed where its end
would show: once the same server has logged a logout since we watch. It can be wrong in one
direction only, as a logout that is lost is made up for by max_session, and one that is not ours to
count ends another session's renewal.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Final

from popbsmtp_wrap.watch.observed_login import ObservedLogin

# About 400 bytes each.
MOST_ADDRESSES: Final = 50_000
# A client opens some connections for each folder; whoever opens more is renewed as well.
_MOST_SESSIONS: Final = 64
_MOST_SERVERS: Final = 256


@dataclass(slots=True)
class _Client:
    observed: ObservedLogin
    renewed: float
    # When each session began, the oldest first.
    began: deque[float] = field(default_factory=lambda: deque(maxlen=_MOST_SESSIONS))


class OpenSessions:
    """The addresses that have sessions open; bounded. Times are on the monotonic clock."""

    def __init__(self, most: int = MOST_ADDRESSES) -> None:
        """Beyond *most* addresses the one that logged in first is not renewed any more."""
        self._most = most
        self._clients: dict[str, _Client] = {}
        self._both: dict[tuple[str, str], None] = {}

    def __len__(self) -> int:
        """Return how many addresses have sessions open."""
        return len(self._clients)

    def login(self, server: str, observed: ObservedLogin) -> None:
        """Count a session that begins."""
        if (server, observed.service or "") not in self._both:
            return
        client = self._clients.pop(observed.address, None)
        if client is None:
            client = _Client(observed, observed.moment)
        client.observed = observed
        client.renewed = max(client.renewed, observed.moment)
        client.began.append(observed.moment)
        self._clients[observed.address] = client
        if len(self._clients) > self._most:
            del self._clients[next(iter(self._clients))]

    def logout(self, server: str, service: str, address: str) -> None:
        """Count a session that ends; which one is unknown, so the oldest goes on."""
        self._both[server, service] = None
        if len(self._both) > _MOST_SERVERS:
            del self._both[next(iter(self._both))]
        client = self._clients.get(address)
        if client is None:
            return
        client.began.pop()
        if not client.began:
            del self._clients[address]

    def not_renewed(self, addresses: Iterable[str]) -> None:
        """Have *addresses* due again at once, if they still have sessions open."""
        for address in addresses:
            if client := self._clients.get(address):
                client.renewed = -inf

    def due(self, now: float, every_s: float, max_session_s: float) -> Iterator[ObservedLogin]:
        """Yield the clients whose rows are to be renewed at *now*: not seen for *every_s*.

        A session that is open for longer than *max_session_s* counts as ended.
        """
        for address, client in [*self._clients.items()]:
            while client.began and now - client.began[0] > max_session_s:
                client.began.popleft()
            if not client.began:
                del self._clients[address]
            elif now - client.renewed >= every_s:
                client.renewed = now
                yield client.observed.at(now)
