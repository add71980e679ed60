"""What becomes of each login: remembered, committed with others, or spooled. Runs in the loop.

The database is either up or down. Up: logins wait for the commit that runs and go into the next
one. A commit that fails, or that takes longer than *patience*, takes the database down: what waits
for it goes to the spool, and so does every login after it, at no other cost (a circuit breaker). A
probe with growing pauses takes it up again, and then the spool drains beside the logins.
"""

import asyncio
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.counts import Counts
from popbsmtp_wrap.recorder.database import Database, Seen
from popbsmtp_wrap.recorder.draining import Draining
from popbsmtp_wrap.recorder.entry import Answer, Entry, patience_s
from popbsmtp_wrap.recorder.kept import Kept
from popbsmtp_wrap.recorder.log import Log
from popbsmtp_wrap.recorder.memory import Memory
from popbsmtp_wrap.recorder.pauses import Pauses
from popbsmtp_wrap.recorder.spooling import Spooling

# A row that went away behind our back (revoked on another host) is not remembered for longer.
_VERIFY_S: Final = 1.0
# Recording processes spool as well, while there is no recorder.
_LOOK_S: Final = 5.0
# Logins that wait, or that neither database nor spool takes; 1 kB each. Who has asked may hang up.
_MOST_WAITING: Final = 10_000


class Desk:
    """Takes logins and sees that they get into the table."""

    def __init__(
        self, settings: Settings, database: Database, spooling: Spooling, log: Log, counts: Counts
    ) -> None:
        self.memory = Memory(settings.refresh)
        self.up = True
        self.trouble: str | None = None
        self._database = database
        self._spooling = spooling
        self._log = log
        self._counts = counts
        self._patience_s = patience_s(settings)
        self._waiting: dict[str, Entry] = {}
        self._in_flight: list[Entry] = []
        self._kept = Kept(_MOST_WAITING)
        self._unanswered = 0
        self._pauses = Pauses()
        self._draining = Draining(spooling, self._commit, log)
        self._loop = asyncio.get_running_loop()
        self._work = asyncio.Event()
        self._drainable = asyncio.Event()
        jobs = (self._write(), self._drain(), self._look(), self._verify())
        self._tasks = [asyncio.create_task(job) for job in jobs]
        self._probe_task: asyncio.Task[None] | None = None

    def submit(self, login: Login, answer: Answer) -> None:
        """Have *login*, now as old as it says, recorded; *answer* hears of it once."""
        now = time.monotonic()
        if self.memory.holds(login.address, now - login.age_s):
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
            answer(trouble)

        if entry := self._waiting.get(login.address):
            entry.join(login, now, answered)
            return
        entry = Entry(login, now, answered)
        if self.up:
            if not self._waiting:
                # What has come in this turn of the loop goes together.
                self._loop.call_soon(self.write_at_once)
            self._waiting[login.address] = entry
        else:
            self._spool([entry])

    async def adopt(self, settings: Settings, database: Database) -> None:
        """Go on with other settings and *database*; close the one before."""
        old, self._database = self._database, database
        self._patience_s = patience_s(settings)
        self._pauses.reset()
        self.memory.refresh_s = settings.refresh
        self.memory.clear()
        await old.close()

    def depth(self) -> int:
        """Return how many addresses wait for a commit."""
        return len(self._waiting) + len(self._in_flight) + len(self._kept)

    async def revoke(self, addresses: Collection[str] | None) -> None:
        """Forget *addresses*, None for all, once their logins so far are in the table.

        What waits in the spool does not come back. Raise SpoolError when that cannot be.
        """
        await self._settled()
        batch = self._in_flight
        # Spooled or not, a commit that is under way may still come.
        while batch and self._in_flight is batch:  # noqa: ASYNC110 - rare
            await asyncio.sleep(0.005)
        self.revoked(addresses)
        await self._draining.remove(addresses)

    def revoked(self, addresses: Collection[str] | None) -> None:
        """Have the next login of *addresses*, None for all, written."""
        self._kept.forget(addresses)
        if addresses is None:
            self.memory.clear()
        for address in addresses or ():
            self.memory.forget(address)

    async def close(self, patience_s: float) -> None:
        """Commit or spool what waits, within about *patience_s* seconds, and stop."""
        try:
            async with asyncio.timeout(patience_s / 2):
                await self._settled()
        except TimeoutError:
            self._go_down("the recorder stops before it answers")
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s / 2):
                    await self._spooling.settled()
        for task in filter(None, [*self._tasks, self._probe_task]):
            task.cancel()
        # Somebody was told that these are not safe, or will be when his connection ends.
        unsafe = [entry for entry in (*self._waiting.values(), *self._in_flight) if entry.answers]
        self._log.event("stopped", lost=len(unsafe) + len(self._kept))

    async def _settled(self) -> None:
        """Wait until nothing waits that came before."""
        pending = [*self._waiting.values(), *self._in_flight]
        while any(entry.answers for entry in pending):  # noqa: ASYNC110 - rare
            await asyncio.sleep(0.005)
        await self._spooling.settled()

    def write_at_once(self) -> None:
        """Commit what waits if that is a few logins, or have it committed."""
        waiting = self._waiting
        seen = [Seen(entry.login, entry.since) for entry in waiting.values()]
        if self.up and not self._in_flight and self._database.write_at_once(seen):
            self._waiting = {}
            self._committed(waiting.values())
        elif waiting:
            self._work.set()

    async def _write(self) -> None:
        """Commit what waits, batch by batch."""
        while True:
            await self._work.wait()
            if not self._waiting:
                self._work.clear()
                continue
            batch = self._take()
            slow = self._loop.call_later(self._patience_s, self._too_slow)
            try:
                await self._commit([Seen(entry.login, entry.since) for entry in batch])
            except PopbsmtpError as error:
                self._in_flight = []
                self._go_down(str(error))
                self._spool(batch)
            else:
                self._committed(batch)
            finally:
                slow.cancel()

    async def _commit(self, batch: list[Seen]) -> None:
        outcome = await self._database.write(batch)
        self._pauses.reset()
        for seen, reason in outcome.refused:
            self._counts.outcomes["not taken"] += 1
            self._log.event("login_not_taken", address=seen.login.address, error=reason)

    def _take(self) -> list[Entry]:
        size = self._database.batch_size(len(self._waiting))
        addresses = [address for address, _ in zip(self._waiting, range(size), strict=False)]
        self._in_flight = [self._waiting.pop(address) for address in addresses]
        return self._in_flight

    def _committed(self, batch: Collection[Entry]) -> None:
        self._in_flight = []
        self._counts.batch(len(batch))
        for entry in batch:
            # One of a log may have been from before a revocation, and then it is not in the table:
            # the next one has to be written.
            if not entry.login.age_s:
                self.memory.add(entry.login.address, entry.moment)
            self._counts.outcomes["committed"] += len(entry.answers)
            entry.answer(None)
        self._go_up()

    def _too_slow(self) -> None:
        """Spool what waits for a commit that takes too long; it may come all the same."""
        self._go_down(f"no commit within {self._patience_s:g} s")
        self._spool(self._in_flight)

    def _go_down(self, trouble: str) -> None:
        self.trouble = trouble
        self._drainable.clear()
        if self.up:
            self.up = False
            self._log.event("database_down", error=trouble)
            self._probe_task = asyncio.create_task(self._probe())
        waiting, self._waiting = self._waiting, {}
        self._spool(waiting.values())

    def _go_up(self) -> None:
        if self.up:
            return
        self.up, self.trouble = True, None
        self._log.event("database_up", spooled=self._spooling.waiting, kept=len(self._kept))
        if self._probe_task is not None:
            self._probe_task.cancel()
            self._probe_task = None
        self._waiting = self._kept.take() | self._waiting
        self._work.set()
        self._drainable.set()

    async def _probe(self) -> None:
        """Try the database with growing pauses until it takes something."""
        while not self.up:
            await asyncio.sleep(self._pauses.next_s())
            try:
                if not await self._draining.some():
                    await self._database.ping()
            except PopbsmtpError as error:
                self.trouble = str(error)
            else:
                self._probe_task = None
                self._go_up()

    def _spool(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.answers:
                self._spooling.add(entry.login, entry.since, partial(self._spooled, entry))

    def _spooled(self, entry: Entry, trouble: str | None) -> None:
        if not entry.answers:
            return  # committed meanwhile
        if trouble is None:
            self.memory.add(entry.login.address, entry.moment)
            self._counts.outcomes["spooled"] += len(entry.answers)
            if self.up:
                self._drainable.set()
        else:
            self._counts.outcomes["refused"] += len(entry.answers)
            self._keep(entry)
        entry.answer(trouble)

    def _keep(self, entry: Entry) -> None:
        """Keep a login that nobody takes in memory, as long as we live and there is room."""
        kept = Entry(entry.login, entry.since, lambda _: None)
        if self.up:
            self._waiting.setdefault(entry.login.address, kept)
            self._work.set()
        elif not self._kept.add(kept):
            self._counts.outcomes["lost"] += 1

    async def _drain(self) -> None:
        """Write what the spool holds while the database is up."""
        while True:
            await self._drainable.wait()
            try:
                if not await self._draining.some():
                    self._drainable.clear()
            except PopbsmtpError as error:
                self._go_down(str(error))

    async def _look(self) -> None:
        """Find out whether the database is up, and again and again what others have spooled."""
        try:
            await self._database.ping()
        except PopbsmtpError as error:
            self._go_down(str(error))
        while True:
            if self.up:
                self._drainable.set()
            await asyncio.sleep(_LOOK_S)

    async def _verify(self) -> None:
        """Forget the addresses that were answered from memory and have no row."""
        while True:
            await asyncio.sleep(_VERIFY_S)
            if self.up and not self._spooling.waiting and (hits := self.memory.take_hits()):
                try:
                    for address in await self._database.missing(hits):
                        self.memory.forget(address)
                except PopbsmtpError as error:
                    self._go_down(str(error))
