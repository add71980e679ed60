"""Rows of open sessions on their way to now, beside the logins: a thread, a connection of its own.

Nothing of it waits in the spool: a renewal that fails is tried again while its session is open.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.networks import IgnoredNetworks, why_ignored
from popbsmtp_wrap.store.engine import Store, open_store
from popbsmtp_wrap.store.renewal import MOST, Renewed, renew

# From `doveadm who`, and from popbsmtp watch.
DOVEADM: Final = "sessions"
WATCH: Final = "watched-sessions"
# An outage that a session may outlast: beyond it nobody knows that it was open all along.
_LONGEST_AWAY_S: Final = 3600.0
# A restart on a busy machine, where grace is shorter than that.
_RESTART_S: Final = 60.0


class Renewals:
    """Renews the rows of addresses that have sessions open."""

    def __init__(
        self,
        settings: Settings,
        networks: IgnoredNetworks,
        counts: Counts,
        *,
        not_taken: Callable[[str, str], None],
        once: bool = False,
        is_refused: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Nothing is connected yet; *once* is for one round of many, as cron asks for them.

        *not_taken* gets each address whose row the database refuses to change, and why.
        *is_refused* returns whether logins from an address are refused; its sessions then renew
        nothing either. Both are called in the event loop. Raise ConfigError for settings that
        cannot work.
        """
        self._once = once
        self._not_taken = not_taken
        self._is_refused = is_refused
        self._counts = counts
        # When each source was last renewed without a failure, on the monotonic clock.
        self._renewed: dict[str, float] = {}
        self._failing: set[str] = set()
        self._thread = WorkerThread("renewals", StoreUnavailableError)
        self.adopt(settings, networks)

    def adopt(self, settings: Settings, networks: IgnoredNetworks) -> None:
        """Go on with other settings and ignored networks. Raise ConfigError."""
        self._store = open_store(settings.database, stay_connected=True)
        self._grace_s = settings.grace
        # What cron leaves between two runs of `popbsmtp renew`, where nothing is set.
        self._every_s = settings.renew or settings.grace / 3
        self._networks = networks

    async def renew(self, source: str, addresses: Iterable[str], since: float) -> int:
        """Return how many rows canonical *addresses* have, all renewed.

        *since* is when their sessions were open, on the monotonic clock. Left as they are: rows
        that had expired when *source* was last renewed, and those that the database
        refuses to change. Raise StoreUnavailableError, RefusedError or SchemaError when the
        database takes none.
        """
        store, renewed = self._store, 0
        oldest_s = self._grace_s + self._away_s(source, since)
        try:
            for portion in _portions(addresses):
                known = [a for a in portion if not why_ignored(a, self._networks)]
                wanted = [a for a in known if not self._is_refused(a)]
                done = await self._thread.run(partial(_renew, store, wanted, since, oldest_s))
                self._count(
                    source,
                    {
                        "ignored": len(portion) - len(known),
                        "shared": len(known) - len(wanted),
                        "renewed": done.rows,
                        "not taken": len(done.refused),
                        "no row": len(wanted) - done.rows - len(done.refused),
                    },
                )
                for address, error in done.refused.items():
                    self._not_taken(address, error)
                renewed += done.rows
        except BaseException:
            self._failing.add(source)
            raise
        else:
            self._renewed[source] = since
            self._failing.discard(source)
        finally:
            # It is not needed again for minutes. Behind a call that hangs nobody waits for it.
            self._thread.run_later(store.engine.dispose)
        return renewed

    def _away_s(self, source: str, since: float) -> float:
        """Return for how long rows of open sessions may have expired while nobody renewed them.

        Doveadm is asked regularly, so a gap is an outage. A watcher is silent while no session
        is due, so a gap between its renewals counts only if one of them failed. A recorder that
        starts does not know how long it was away: one grace is assumed, and never less than a
        restart takes.
        """
        renewed = self._renewed.get(source)
        if self._once or (renewed is not None and source == WATCH and WATCH not in self._failing):
            return self._every_s
        away_s = max(self._grace_s, _RESTART_S) if renewed is None else since - renewed
        return max(self._every_s, min(away_s, _LONGEST_AWAY_S))

    def _count(self, source: str, outcomes: dict[str, int]) -> None:
        self._counts.logins[source] += sum(outcomes.values())
        self._counts.outcomes.update({name: n for name, n in outcomes.items() if n})

    def close(self) -> None:
        """Renew no more; what is under way ends by itself."""
        self._thread.end()


def _renew(store: Store, addresses: list[str], since: float, oldest_s: float) -> Renewed:
    return renew(store, addresses, since, oldest_s) if addresses else Renewed(0, {})


def _portions(addresses: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(addresses)
    while portion := list(islice(rest, MOST)):
        yield portion
