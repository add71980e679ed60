"""Rows of open sessions on their way to now, beside the logins: a thread, a connection of its own.

Nothing of it waits in the spool: a renewal that fails is tried again while its session is open.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.networks import IgnoredNetworks, why_ignored
from popbsmtp_wrap.recorder.counts import Counts
from popbsmtp_wrap.recorder.worker import Worker
from popbsmtp_wrap.store.engine import Store, open_store
from popbsmtp_wrap.store.renewal import MOST, renew

# From `doveadm who`, and from popbsmtp watch.
DOVEADM: Final = "sessions"
WATCH: Final = "watched-sessions"


class Renewals:
    """Renews the rows of addresses that have sessions open."""

    def __init__(self, settings: Settings, networks: IgnoredNetworks, counts: Counts) -> None:
        """Nothing is connected yet. Raise ConfigError for what cannot work."""
        self._counts = counts
        self._thread = Worker("renewals", StoreUnavailableError)
        self.adopt(settings, networks)

    def adopt(self, settings: Settings, networks: IgnoredNetworks) -> None:
        """Go on with other settings and ignored networks. Raise ConfigError."""
        self._store = open_store(settings.database, stay_connected=True)
        self._networks = networks

    async def renew(self, source: str, addresses: Iterable[str], since: float) -> int:
        """Return how many rows canonical *addresses* have, all renewed.

        *since* is when their sessions were open, on the monotonic clock. Raise
        StoreUnavailableError, RefusedError or SchemaError when some are not renewed.
        """
        store, renewed = self._store, 0
        try:
            for portion in _portions(addresses):
                wanted = [a for a in portion if not why_ignored(a, self._networks)]
                count = await self._thread.run(partial(_renew, store, wanted, since))
                self._count(source, len(portion), ignored=len(portion) - len(wanted), renewed=count)
                renewed += count
        finally:
            # It is not needed again for minutes.
            await self._thread.run(store.engine.dispose)
        return renewed

    def _count(self, source: str, size: int, *, ignored: int, renewed: int) -> None:
        outcomes = {"ignored": ignored, "renewed": renewed, "no row": size - ignored - renewed}
        self._counts.logins[source] += size
        self._counts.outcomes.update({name: n for name, n in outcomes.items() if n})

    def close(self) -> None:
        """Renew no more; what is under way ends by itself."""
        self._thread.end()


def _renew(store: Store, addresses: list[str], since: float) -> int:
    return renew(store, addresses, since) if addresses else 0


def _portions(addresses: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(addresses)
    while portion := list(islice(rest, MOST)):
        yield portion
