"""Where logins go that no commit takes now: to disk, and to memory where the disk takes nothing."""

from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.counts import Counts
from popbsmtp_wrap.recorder.overflow import Overflow
from popbsmtp_wrap.recorder.pending_login import PendingLogin

# Logins that neither database nor spool takes; 1 kB each.
_MOST_KEPT: Final = 10_000


class Spill:
    """Spools logins and answers them; keeps those in memory that cannot be spooled."""

    def __init__(
        self,
        spool: AsyncSpool,
        spooled: Callable[[PendingLogin], None],
        retry: Callable[[PendingLogin], bool],
        counts: Counts,
    ) -> None:
        """*spooled* answers a login that is on disk.

        *retry* queues a login for another commit and returns True, unless that would be in vain.
        """
        self._spool = spool
        self._on_disk = spooled
        self._retry = retry
        self._counts = counts
        self._overflow = Overflow(_MOST_KEPT)

    @property
    def kept(self) -> int:
        """How many addresses have a login in memory alone."""
        return len(self._overflow)

    def add(self, logins: Iterable[PendingLogin]) -> None:
        """Spool those of *logins* that are still open."""
        for pending in list(logins):
            if pending.is_open:
                self._spool.add(pending.login, pending.since, partial(self._spooled, pending))

    def take_kept(self) -> Collection[PendingLogin]:
        """Return the logins that are in memory alone; they are the caller's now."""
        return self._overflow.take().values()

    def forget(self, addresses: Iterable[str] | None) -> None:
        """Drop the logins of *addresses*, None for all, that are in memory alone."""
        self._overflow.forget(addresses)

    def _spooled(self, pending: PendingLogin, trouble: str | None) -> None:
        if not pending.is_open:
            return  # committed meanwhile
        if trouble is None:
            self._on_disk(pending)
            return
        self._counts.outcomes["refused"] += pending.askers
        pending.answer(trouble)
        pending.kept = True
        if not self._retry(pending) and not self._overflow.add(pending):
            self._counts.outcomes["lost"] += 1
