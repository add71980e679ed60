"""The queue of logins that wait for a commit. Runs in the event loop.

    submit() ──► recently written? ──yes──► answered
                      │ no
                      ▼
                 queue ──► one commit for all that wait ──► answered, row by row
                      │ database down or too slow, row locked
                      ▼
                 spool ──► answered (fallback.py); drained later (spool_drain.py)
                      │ the spool takes nothing
                      ▼
                 refused; kept in memory for a later commit (fallback.py)

While the database is up, logins wait for the commit that runs and go into the next one. A commit
that takes longer than commit_patience_s() is late: what waits for it goes to the spool, and so does
every login until it lands; it may only wait for a locked row. A commit that fails, or is overdue,
takes the database down (outages.py), and logins go to the spool until a probe succeeds.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.daemon.supervisor import Supervisor
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.async_database import AsyncDatabase, Outcome, Seen
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.database_checks import DatabaseChecks
from popbsmtp_wrap.recorder.fallback import Fallback
from popbsmtp_wrap.recorder.outages import Outages
from popbsmtp_wrap.recorder.pending_login import PendingLogin, commit_patience_s
from popbsmtp_wrap.recorder.recent_addresses import RecentAddresses
from popbsmtp_wrap.recorder.spool_drain import SpoolDrain
from popbsmtp_wrap.recorder.table_writer import TableWriter
from popbsmtp_wrap.recorder.waiting_logins import WaitingLogins
from popbsmtp_wrap.server.handlers import Answer

# From late to overdue. Waits for locks and for a server that hangs end before that, and say what it
# is, unless connect_timeout is longer than its default.
_OVERDUE_S: Final = 3.0
# Unanswered logins, 1 kB each.
_MOST_WAITING: Final = 10_000
# A login that was older than this when it was written may have been revoked in between, so its
# address is not remembered.
_FRESH_S: Final = 1.0
# A commit that is late by this much gives its logins their true age, so that a revocation meanwhile
# wins in the table (store/upsert.py).
_IN_FLIGHT_S: Final = 1.5


class CommitQueue:
    """Takes logins and answers each when it is in the table or in the spool."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        database: AsyncDatabase,
        spool: AsyncSpool,
        supervisor: Supervisor,
        log: EventLog,
        counts: Counts,
        patience_s: Callable[[Settings], float] = commit_patience_s,
        *,
        is_last: bool = False,
    ) -> None:
        """*settings* returns those in force; *patience_s* is how long a login waits for a commit.

        A queue that *is_last* has nobody behind it: where there is no spool, clients wait until the
        database was asked about their login, and hear from both why they are refused.
        """
        self.recent = RecentAddresses(settings().refresh)
        self.writer = TableWriter(database, log, counts)
        self.outages = Outages(self, log)
        self.drain = SpoolDrain(
            spool, self.writer.write, self.outages.begin, self.writer.locked, log
        )
        self.checks = DatabaseChecks(self)
        self._settings = settings
        self._spool = spool
        self._supervisor = supervisor
        self._log = log
        self._counts = counts
        self._waiting = WaitingLogins()
        self._in_flight: list[PendingLogin] = []
        self._is_late = False
        self._landed = asyncio.Event()
        self._landed.set()
        self._patience_s = patience_s
        last_word = (self.outages.breaker.probe_now, self.outages.explain) if is_last else None
        self.fallback: Fallback = Fallback(spool, self._is_safe, counts, last_word)
        self._unanswered = 0
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.Event()

    def submit(self, login: Login, answer: Answer) -> None:
        """Queue *login*, *login.age_s* old now; call *answer* exactly once."""
        now = time.monotonic()
        if self.recent.covers(login, now):
            self._counts.outcomes["remembered"] += 1
            answer(None)
            return
        if self._unanswered >= _MOST_WAITING:
            self._counts.outcomes["refused"] += 1
            self._log.event("login_refused", waiting=self._unanswered)
            answer(f"{self._unanswered} logins wait already")
            return
        self._unanswered += 1

        def answered(trouble: str | None) -> None:
            self._unanswered -= 1
            with self._supervisor.guard("answer"):
                answer(trouble)

        if pending := self._waiting.get(login.address):
            pending.join(login, now, answered)
        else:
            self.queue(PendingLogin(login, now, answered))

    def adopt(self, database: AsyncDatabase) -> None:
        """Use *database* and the settings in force from now on."""
        old, self.writer.database = self.writer.database, database
        self.outages.breaker.hurry()
        self.recent.refresh_s = self._settings().refresh
        self.recent.write_again(None)
        # It may be another database, where nothing is locked.
        self.writer.locked.forget()
        # Behind a commit that hangs it closes when it can.
        old.close_later()

    def depth(self) -> int:
        """Return how many addresses wait for a commit."""
        return len(self._waiting) + len(self._in_flight) + self.fallback.kept

    @property
    def unsafe(self) -> int:
        """How many addresses have logins in memory alone."""
        return sum(pending.is_open for pending in self._here()) + self.fallback.kept

    def _here(self) -> list[PendingLogin]:
        """Return what waits for a commit, and what is being committed."""
        return [*self._waiting, *self._in_flight]

    def oldest_s(self) -> float:
        """Return for how long logins have waited in the queue for the next commit to begin.

        Those that a commit has taken, or that wait for its end, wait for the database.
        """
        return 0.0 if self._in_flight else self._waiting.waited_s()

    async def revoke(self, addresses: Collection[str] | None) -> None:
        """Forget *addresses*, None for all, once their logins so far are in the table.

        What waits in the spool does not come back. Raise SpoolError when that cannot be.
        """
        await self._settled()
        with suppress(TimeoutError):
            async with asyncio.timeout(_IN_FLIGHT_S):
                await self._landed.wait()
        self.fallback.forget(addresses)
        self.recent.forget(addresses)
        self.writer.locked.forget(addresses)
        await self.drain.remove(addresses)

    async def close(self, patience_s: float) -> int:
        """Commit or spool what waits, within about *patience_s* seconds; return what is lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s / 2):
                if self.outages.breaker.up:
                    await self.checks.verify()
                await self._settled()
        late = self._here()
        if any(pending.is_open for pending in late):
            self.outages.begin("the recorder stops before the database answers")
            self.fallback.take(self._in_flight)
        self.outages.spool_remembered()
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s / 2):
                await self._spool.settled()
        return sum(pending.is_open for pending in late) + self.fallback.kept

    async def _settled(self) -> None:
        """Return when every login so far is answered."""
        for pending in self._here():
            await pending.settled()
        await self._spool.settled()

    @property
    def takes_logins(self) -> bool:
        """Whether a login may wait for a commit; otherwise it goes to the spool."""
        return self.outages.breaker.up and not self._is_late

    def queue(self, pending: PendingLogin) -> None:
        """Have *pending* committed, or spooled while the database does not take it."""
        address = pending.login.address
        if not self.takes_logins or self.writer.locked.holds(address):
            self.fallback.take([pending])
        elif self._waiting.add(pending):
            # Logins of the same turn of the loop go together.
            self._loop.call_soon(self.write_at_once)

    def write_at_once(self) -> None:
        """Commit what waits, if that is a few logins, or have commit_waiting() do it."""
        waiting = self._waiting
        may_write = self.outages.breaker.up and not self._in_flight
        if may_write and self.writer.database.write_at_once(waiting.seen()):
            self._wrote(waiting.take_all(), Outcome())
        elif waiting:
            self._work.set()

    async def commit_waiting(self) -> None:
        """Commit what waits, batch by batch; a job."""
        while True:
            await self._work.wait()
            if not self._waiting:
                self._work.clear()
                continue
            batch = self._take()
            patience_s = self._patience_s(self._settings())
            late = self._loop.call_later(patience_s, self.hurry)
            longest_s = patience_s + _OVERDUE_S
            overdue = self._loop.call_later(
                longest_s, self.outages.begin, f"no commit within {longest_s:g} s"
            )
            try:
                outcome = await self.writer.write([Seen(p.login, p.since) for p in batch])
            except PopbsmtpError as error:
                self.outages.begin(str(error))
                self._land()
                self.fallback.take(batch, is_last_word=True)
            else:
                was_late = self._is_late
                self._land()
                self._wrote(batch, outcome)
                if was_late:
                    self.outages.retry_kept()
            finally:
                late.cancel()
                overdue.cancel()

    def _land(self) -> None:
        """Have logins committed again: the commit that was under way has ended."""
        if self._is_late and self.outages.breaker.up:
            self.drain.start()
        self._is_late = False
        self._in_flight = []
        self._landed.set()

    def _take(self) -> list[PendingLogin]:
        size = self.writer.database.batch_size(len(self._waiting))
        self._in_flight = self._waiting.take(size)
        self._landed.clear()
        return self._in_flight

    def _wrote(self, batch: Collection[PendingLogin], outcome: Outcome) -> None:
        """Answer the logins of *batch*, which are committed but for those of *outcome*."""
        refused = {seen.login.address: reason for seen, reason in outcome.refused}
        locked = {seen.login.address for seen, _ in outcome.locked}
        if written := len(batch) - len(refused) - len(locked):
            self._counts.batch(written)
        self.outages.breaker.reset()
        self.outages.forget_if_replaced()
        for pending in batch:
            address = pending.login.address
            if address in refused:
                # Spooled meanwhile, it is refused once more when it comes out of the spool.
                if pending.is_open and pending.refuse(refused[address]):
                    self.queue(pending)
            elif address in locked:
                self.fallback.take([pending])
            else:
                self._is_safe(pending, "committed")

    def _is_safe(self, pending: PendingLogin, outcome: str) -> None:
        if not pending.login.age_s and time.monotonic() - pending.moment < _FRESH_S:
            self.recent.add(pending.login.address, pending.moment)
        self._counts.outcomes[outcome] += pending.askers
        pending.answer(None)
        if outcome == "spooled" and self.takes_logins:
            self.drain.start()

    def hurry(self) -> None:
        """Spool what waits; the commit that is under way may come all the same.

        Until it lands, other logins go to the spool as well.
        """
        if self.takes_logins:
            self.fallback.reset_count()
        self._is_late = True
        self.fallback.take(self._in_flight)
        self.spool_waiting()

    def spool_waiting(self, *, is_last_word: bool = False) -> None:
        """Spool what waits for the next commit; *is_last_word* as in Fallback.take()."""
        self.fallback.take(self._waiting.take_all(), is_last_word=is_last_word)
