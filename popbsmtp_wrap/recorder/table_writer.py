"""Batches of logins into the table, with a note of the rows that it did not take."""

import time

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.recorder.async_database import AsyncDatabase, Outcome, Seen
from popbsmtp_wrap.recorder.locked_rows import LockedRows


class TableWriter:
    """Writes for the commit queue and for the drain of the spool alike."""

    def __init__(self, database: AsyncDatabase, log: EventLog, counts: Counts) -> None:
        """*database* may be replaced by another one at any time."""
        self.database = database
        self.locked = LockedRows(time.monotonic)
        self._log = log
        self._counts = counts

    async def write(self, batch: list[Seen]) -> Outcome:
        """Commit *batch* and return what is not committed. Raise as AsyncDatabase.write() does.

        Refused logins are logged and counted; locked rows are remembered, so that their logins are
        not tried again at once.
        """
        try:
            outcome = await self.database.write(batch)
        except PopbsmtpError as error:
            if error.in_doubt:
                # Others are tried before these are tried again.
                for seen in batch:
                    self.locked.add(seen.login.address)
            raise
        for seen, _ in outcome.locked:
            if self.locked.add(seen.login.address):
                self._log.event("row_locked", address=seen.login.address)
        left = {seen.login.address for seen, _ in outcome.locked}
        for seen in batch:
            if seen.login.address not in left:
                self.locked.discard(seen.login.address)
        for seen, reason in outcome.refused:
            self._counts.outcomes["not taken"] += 1
            self._log.event("login_not_taken", address=seen.login.address, error=reason)
        return outcome
