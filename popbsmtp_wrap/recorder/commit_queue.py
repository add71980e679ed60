"""The queue of logins that wait for a commit. Runs in the event loop.

    submit() ──► recently written? ──yes──► answered
                      │ no
                      ▼
                 queue ──► one commit for all that wait ──► answered, row by row
                      │ database down or too slow, row locked
                      ▼
                 spool ──► answered; drained into the table later (spool_drain.py)
                      │ the spool takes nothing
                      ▼
                 refused; kept in memory for a later commit (spill.py)

While the database is up, logins wait for the commit that runs and go into the next one. A commit
that fails, or that takes longer than commit_patience_s(), takes the database down
(circuit_breaker.py): what waits for it goes to the spool, and so does every later login, without
asking the database again.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.supervisor import Supervisor
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.async_database import AsyncDatabase, NotWritten, Outcome, Seen
from popbsmtp_wrap.recorder.async_spool import AsyncSpool
from popbsmtp_wrap.recorder.circuit_breaker import CircuitBreaker
from popbsmtp_wrap.recorder.counts import Counts
from popbsmtp_wrap.recorder.locked_rows import LockedRows
from popbsmtp_wrap.recorder.pending_login import Answer, PendingLogin, commit_patience_s
from popbsmtp_wrap.recorder.recent_addresses import RecentAddresses
from popbsmtp_wrap.recorder.spill import Spill
from popbsmtp_wrap.recorder.spool_drain import SpoolDrain
from popbsmtp_wrap.recorder.verification import verify_remembered

# Unanswered logins; 1 kB each.
_MOST_WAITING: Final = 10_000
# A login that was older than this when it was written may have been revoked in between, so its
# address is not remembered.
_FRESH_S: Final = 1.0
# A commit that is late by this much gives its logins their true age, so that a revocation meanwhile
# wins in the table (store/logins.py).
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
    ) -> None:
        """*settings* returns those in force."""
        self.recent = RecentAddresses(settings().refresh)
        self.breaker = CircuitBreaker(self._probe, self._came_up, log)
        self.locked = LockedRows(time.monotonic)
        self.drain = SpoolDrain(spool, self._write, self._go_down, self.locked, log)
        self._settings = settings
        self._database = database
        self._spool = spool
        self._supervisor = supervisor
        self._log = log
        self._counts = counts
        self._waiting: dict[str, PendingLogin] = {}
        self._in_flight: list[PendingLogin] = []
        self._landed = asyncio.Event()
        self._landed.set()
        self._spill = Spill(spool, self._spooled, self._retry, counts)
        self._unanswered = 0
        self._spooled_while_down = 0
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
            try:
                answer(trouble)
            except Exception as error:  # noqa: BLE001 - it costs this answer, not the commits
                self._log.unexpected("answer", error)

        if pending := self._waiting.get(login.address):
            pending.join(login, now, answered)
        else:
            self._queue(PendingLogin(login, now, answered))

    def adopt(self, database: AsyncDatabase) -> None:
        """Use *database* and the settings in force from now on."""
        old, self._database = self._database, database
        self.breaker.hurry()
        self.recent.refresh_s = self._settings().refresh
        self.recent.clear()
        # It may be another database, where nothing is locked; behind a commit that hangs the old
        # connection closes when it can.
        self.locked = self.drain.locked = LockedRows(time.monotonic)
        old.close_later()

    async def look(self) -> None:
        """Find out whether the database that is up is still the one that others read."""
        if not self.breaker.up:
            return
        try:
            await self._database.check_in_place()
        except PopbsmtpError as error:
            self._go_down(str(error))
        else:
            self._forget_if_replaced()

    def depth(self) -> int:
        """Return how many addresses wait for a commit."""
        return len(self._waiting) + len(self._in_flight) + self._spill.kept

    def oldest_s(self) -> float:
        """Return for how long the oldest login has waited in the queue, 0 when none does.

        Those that a commit has taken do not count: they wait for the database.
        """
        if not self.breaker.up or self._in_flight:
            return 0.0
        now = time.monotonic()
        return max((now - pending.since for pending in self._waiting.values()), default=0.0)

    async def revoke(self, addresses: Collection[str] | None) -> None:
        """Forget *addresses*, None for all, once their logins so far are in the table.

        What waits in the spool does not come back. Raise SpoolError when that cannot be.
        """
        await self._settled()
        with suppress(TimeoutError):
            async with asyncio.timeout(_IN_FLIGHT_S):
                await self._landed.wait()
        self.forget(addresses)
        await self.drain.remove(addresses)

    def forget(self, addresses: Collection[str] | None) -> None:
        """Have the next login of *addresses*, None for all, written, and none before it."""
        self._spill.forget(addresses)
        if addresses is None:
            self.recent.forget_all()
        for address in addresses or ():
            self.recent.forget(address)
            self.locked.discard(address)

    async def close(self, patience_s: float) -> None:
        """Commit or spool what waits, within about *patience_s* seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s / 2):
                await self._settled()
        if self._unanswered:
            self._go_down("the recorder stops before the database answers")
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s / 2):
                    await self._spool.settled()
        # Their clients were told that these are not safe, or see their connection end.
        lost = sum(p.is_open for p in (*self._waiting.values(), *self._in_flight))
        self._log.event("stopped", lost=lost + self._spill.kept)

    async def _settled(self) -> None:
        """Return when every login so far is answered."""
        for pending in (*self._waiting.values(), *self._in_flight):
            await pending.settled()
        await self._spool.settled()

    def _queue(self, pending: PendingLogin) -> None:
        address = pending.login.address
        if not self.breaker.up or self.locked.holds(address):
            self._spill.add([pending])
        elif known := self._waiting.get(address):
            known.merge(pending)
        else:
            if not self._waiting:
                # Logins of the same turn of the loop go together.
                self._loop.call_soon(self.write_at_once)
            self._waiting[address] = pending

    def write_at_once(self) -> None:
        """Commit what waits, if that is a few logins, or have commit_waiting() do it."""
        waiting = self._waiting
        seen = [Seen(p.login, p.since) for p in waiting.values()]
        if self.breaker.up and not self._in_flight and self._database.write_at_once(seen):
            self._waiting = {}
            self._wrote(waiting.values(), Outcome())
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
            slow = self._loop.call_later(commit_patience_s(self._settings()), self._too_slow)
            try:
                outcome = await self._write([Seen(p.login, p.since) for p in batch])
            except PopbsmtpError as error:
                self._in_flight = []
                self._go_down(str(error))
                self._spill.add(batch)
            else:
                self._wrote(batch, outcome)
            finally:
                slow.cancel()
                self._landed.set()

    async def verify_remembered(self) -> None:
        """Write the remembered logins whose rows are gone; a job."""
        await verify_remembered(
            self.recent,
            # The row of what is spooled is still to come.
            lambda: self.breaker.up and not self._spool.waiting,
            self._missing,
            self._queue,
            self._go_down,
        )

    async def _missing(self, addresses: Collection[str]) -> set[str]:
        return await self._database.missing(addresses)

    async def look_for_spooled(self, pause_s: float = 5.0) -> None:
        """Find out whether the database is up, and look for what others have spooled; a job."""
        try:
            await self._database.ping()
        except PopbsmtpError as error:
            self._go_down(str(error))
        while True:
            if self.breaker.up:
                self._drain_now()
            await asyncio.sleep(pause_s)
            await self.look()

    async def _write(self, batch: list[Seen]) -> Outcome:
        """Commit *batch*, count and log what was not taken, and return that."""
        outcome = await self._database.write(batch)
        for seen, _ in outcome.locked:
            if self.locked.add(seen.login.address):
                self._log.event("row_locked", address=seen.login.address)
        left = {seen.login.address for seen, _ in outcome.locked}
        for seen in batch:
            if seen.login.address not in left:
                self.locked.discard(seen.login.address)
        for refused in outcome.refused:
            self._refused(refused)
        return outcome

    def _refused(self, refused: NotWritten) -> None:
        self._counts.outcomes["not taken"] += 1
        self._log.event("login_not_taken", address=refused.seen.login.address, error=refused.reason)

    def _take(self) -> list[PendingLogin]:
        size = self._database.batch_size(len(self._waiting))
        addresses = [address for address, _ in zip(self._waiting, range(size), strict=False)]
        self._in_flight = [self._waiting.pop(address) for address in addresses]
        self._landed.clear()
        return self._in_flight

    def _wrote(self, batch: Collection[PendingLogin], outcome: Outcome) -> None:
        """Answer the logins of *batch*, which are committed but for those of *outcome*."""
        self._in_flight = []
        refused = {seen.login.address: reason for seen, reason in outcome.refused}
        locked = {seen.login.address for seen, _ in outcome.locked}
        if written := len(batch) - len(refused) - len(locked):
            self._counts.batch(written)
        self.breaker.reset()
        self._forget_if_replaced()
        for pending in batch:
            address = pending.login.address
            if address in refused:
                # Spooled meanwhile, it is refused once more when it comes out of the spool.
                if pending.is_open and pending.refuse(refused[address]):
                    self._queue(pending)
            elif address in locked:
                self._spill.add([pending])
            else:
                self._is_safe(pending, "committed")

    def _forget_if_replaced(self) -> None:
        """Have the next login of every address written where there is a new database."""
        if self._database.take_replaced():
            self._log.event("database_replaced", remembered=len(self.recent))
            self.recent.clear()

    def _is_safe(self, pending: PendingLogin, outcome: str) -> None:
        if not pending.login.age_s and time.monotonic() - pending.moment < _FRESH_S:
            self.recent.add(pending.login.address, pending.moment)
        self._counts.outcomes[outcome] += pending.askers
        pending.answer(None)

    def _too_slow(self) -> None:
        """Spool what waits for a commit that takes too long; it may come all the same."""
        batch = self._in_flight
        self._go_down(f"no commit within {commit_patience_s(self._settings()):g} s")
        self._spill.add(batch)

    def _go_down(self, trouble: str) -> None:
        self.drain.ready.clear()
        if self.breaker.up:
            self._spooled_while_down = 0
        self.breaker.trip(trouble)
        waiting, self._waiting = self._waiting, {}
        self._spill.add(waiting.values())

    def _came_up(self) -> None:
        self._log.event("database_up", spooled=self._spooled_while_down, kept=self._spill.kept)
        self._drain_now()
        self._work.set()

    async def _probe(self) -> None:
        if not await self.drain.some():
            await self._database.ping()

    def _spooled(self, pending: PendingLogin) -> None:
        self._spooled_while_down += not self.breaker.up
        self._is_safe(pending, "spooled")
        if self.breaker.up:
            self.drain.ready.set()

    def _drain_now(self) -> None:
        """Write what is in the spool, and what was kept in memory."""
        for pending in self._spill.take_kept():
            self._queue(pending)
        self.drain.ready.set()

    def _retry(self, pending: PendingLogin) -> bool:
        if not self.breaker.up or self.locked.holds(pending.login.address):
            return False
        self._queue(pending)
        return True
