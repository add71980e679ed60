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
        counts: Counts,
        last_word: tuple[Callable[[], None], Callable[[str], str]] | None = None,
    ) -> None:
        """*is_safe* answers a login that is on disk; its second argument is for the counts.

        With *last_word* a login that the spool does not take is answered only when the database
        has been asked about it: the first function has that done soon, the second makes the answer
        of the spool's reason.
        """
        # Set when a login is on disk or in memory alone; for somebody else to clear.
        self.was_used = asyncio.Event()
        # Since reset_count().
        self.spooled = 0
        self._spool = spool
        self._is_safe = is_safe
        self._last_word = last_word
        self._counts = counts
        self._overflow = Overflow(_MOST_KEPT)

    @property
    def kept(self) -> int:
        """How many addresses have logins in memory alone."""
        return len(self._overflow)

    @property
    def has_any(self) -> bool:
        """Tell whether logins are in the spool or in memory that belong into the table."""
        return bool(self.kept or self._spool.waiting)

    def reset_count(self) -> None:
        """Count what is spooled from now on."""
        self.spooled = 0

    def take(self, logins: Iterable[PendingLogin], *, is_last_word: bool = False) -> None:
        """Spool those of *logins* that are not safe yet.

        With *is_last_word* the database has been asked about them, and takes them not.
        """
        for pending in list(logins):
            if pending.is_open:
                done = partial(self._spooled, pending, is_last_word=is_last_word)
                self._spool.add(pending.logins, done)

    def give(self) -> Collection[PendingLogin]:
        """Return the logins that are in memory alone, and keep none."""
        return [pending for pending in self._overflow.take().values() if pending.is_open]

    def give_unanswered(self) -> Collection[PendingLogin]:
        """Return those of give() whose clients still wait, and keep the others."""
        return self._overflow.take_unanswered()

    def forget(self, addresses: Iterable[str] | None) -> None:
        """Drop what is in memory of *addresses*, None for all."""
        self._overflow.forget(addresses)

    def _spooled(self, pending: PendingLogin, trouble: str | None, *, is_last_word: bool) -> None:
        if not pending.is_open:
            return  # committed meanwhile
        self.was_used.set()
        if trouble is None:
            self.spooled += 1
            self._is_safe(pending, "spooled")
            return
        if self._last_word and not (is_last_word or pending.kept):
            self._last_word[0]()
        else:
            if not pending.kept:
                self._counts.outcomes["refused"] += pending.askers
            pending.answer(self._last_word[1](trouble) if self._last_word else trouble)
            pending.kept = True
        if not self._overflow.add(pending):
            self._counts.outcomes["lost"] += 1
