"""What becomes of the logins when the database goes down, is back, or is another one."""

from typing import TYPE_CHECKING

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.recorder.circuit_breaker import CircuitBreaker
from popbsmtp_wrap.recorder.database_checks import pending_again

if TYPE_CHECKING:
    from popbsmtp_wrap.recorder.commit_queue import CommitQueue


class Outages:
    """Sends the queue's logins to the spool in an outage, and to the table after it."""

    def __init__(self, queue: "CommitQueue", log: EventLog) -> None:
        self.breaker = CircuitBreaker(self._probe, self._came_up, log)
        self._queue = queue
        self._log = log

    def begin(self, trouble: str) -> None:
        """Have logins spooled until the database takes them again."""
        queue = self._queue
        queue.drain.stop()
        if queue.takes_logins:
            queue.fallback.reset_count()
        if self.breaker.up:
            # What comes back may lack the last commits: what is acknowledged meanwhile has to be on
            # disk, not remembered.
            queue.recent.write_again(None)
        self.breaker.trip(trouble)
        queue.spool_waiting(is_last_word=True)
        self._give_last_word()
        self.spool_remembered()

    def forget_if_replaced(self) -> None:
        """Have the next login of every address written if there is a new database."""
        recent = self._queue.recent
        if self._queue.writer.database.take_replaced():
            self._log.event("database_replaced", remembered=len(recent))
            recent.write_again(None)

    def spool_remembered(self) -> None:
        """Spool the logins that were answered from memory: nobody has looked for their rows yet."""
        while hits := self._queue.recent.take_hits():
            self._queue.fallback.take(pending_again(hit) for hit in hits.values())

    def retry_kept(self) -> None:
        """Have the logins written that neither database nor spool has taken so far."""
        for pending in self._queue.fallback.give():
            self._queue.queue(pending)

    def explain(self, trouble: str) -> str:
        """Return the answer for a login that the spool does not take because of *trouble*."""
        return f"{self.breaker.trouble}; still trying in the background; {trouble}"

    def _give_last_word(self) -> None:
        """Answer those that the spool does not take: the database takes nothing either."""
        fallback = self._queue.fallback
        fallback.take(fallback.give_unanswered(), is_last_word=True)

    def _came_up(self) -> None:
        queue = self._queue
        self._log.event("database_up", spooled=queue.fallback.spooled, kept=queue.fallback.kept)
        # Some may have been in doubt only because nobody's login was taken.
        queue.writer.locked.forget()
        self.retry_kept()
        queue.drain.start()

    async def _probe(self) -> None:
        # A write says more than a ping, but what is drained may have expired.
        try:
            await self._queue.drain.some()
            await self._queue.writer.database.ping()
        except PopbsmtpError as error:
            # A commit may have found out otherwise meanwhile.
            if not self.breaker.up:
                self.breaker.trip(str(error))
                self._give_last_word()
            raise
