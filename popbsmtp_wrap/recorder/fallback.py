"""Where a login goes that the database does not take now: to the spool, else into memory."""

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Final

from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.overflow import Overflow
from popbsmtp_wrap.recorder.pending_login import PendingLogin

# Logins that neither database nor spool takes; 1 kB each.
_MOST_KEPT: Final = 10_000


class Fallback:
    """Answers logins when they are on disk, and keeps those in memory that the disk does not take.

    Those were answered that they are not safe; they are written if the process lives long enough.
    """

    def __init__(
        self,
        spool: AsyncSpool,
        is_safe: Callable[[PendingLogin, str], None],
        explain: Callable[[str], str | None],
        counts: Counts,
    ) -> None:
        """*is_safe* answers a login that is on disk; its second argument is for the counts.

        *explain* returns what to answer for one that the spool does not take, from the spool's
        reason; None leaves it unanswered until give() or give_unanswered().
        """
        # Set when a login is on disk or in memory alone; for somebody else to clear.
        self.has_leftovers = asyncio.Event()
        # Since reset_count().
        self.spooled = 0
        self._spool = spool
        self._is_safe = is_safe
        self._explain = explain
        self._counts = counts
        self._overflow = Overflow(_MOST_KEPT)

    @property
    def kept(self) -> int:
        """How many addresses have logins in memory alone."""
        return len(self._overflow)

    def reset_count(self) -> None:
        """Count what is spooled from now on."""
        self.spooled = 0

    def take(self, logins: Iterable[PendingLogin]) -> None:
        """Spool those of *logins* that are not safe yet."""
        for pending in list(logins):
            if pending.is_open:
                self._spool.add(pending.logins, partial(self._spooled, pending))

    def give(self) -> Collection[PendingLogin]:
        """Return the logins that are in memory alone, and keep none."""
        return [pending for pending in self._overflow.take().values() if pending.is_open]

    def give_unanswered(self) -> Collection[PendingLogin]:
        """Return those of give() whose clients still wait, and keep the others."""
        return self._overflow.take_unanswered()

    def forget(self, addresses: Iterable[str] | None) -> None:
        """Drop what is in memory of *addresses*, None for all."""
        self._overflow.forget(addresses)

    def _spooled(self, pending: PendingLogin, trouble: str | None) -> None:
        if not pending.is_open:
            return  # committed meanwhile
        self.has_leftovers.set()
        if trouble is None:
            self.spooled += 1
            self._is_safe(pending, "spooled")
            return
        reason = self._explain(trouble)
        if reason is not None:
            if not pending.kept:
                self._counts.outcomes["refused"] += pending.askers
            pending.answer(reason)
            pending.kept = True
        if not self._overflow.add(pending):
            self._counts.outcomes["lost"] += 1
