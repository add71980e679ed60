"""Whether the rows are still there that remembered logins rely on."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.recorder.pending_login import PendingLogin
from popbsmtp_wrap.recorder.recent_addresses import RecentAddresses

# For no longer an acknowledged login may have no row.
PAUSE_S: Final = 1.0


async def verify_remembered(
    recent: RecentAddresses,
    may_ask: Callable[[], bool],
    missing: Callable[[Collection[str]], Awaitable[set[str]]],
    queue: Callable[[PendingLogin], None],
    failed: Callable[[str], None],
) -> None:
    """Queue the logins again that were remembered and whose rows are gone; a job.

    A row goes with a fail-over that lost its commit, with a TRUNCATE, or with a revocation on
    another host, which wins in the table: the login is written with its true age. *missing* returns
    those of some addresses that have no row, *may_ask* tells whether it is to be asked now, and
    *failed* hears why it has failed.
    """
    while True:
        await asyncio.sleep(PAUSE_S)
        if not may_ask() or not (hits := recent.take_hits()):
            continue
        try:
            gone = await missing(hits)
        except PopbsmtpError as error:
            failed(str(error))
            for address, hit in hits.items():
                recent.put_back(address, hit)
            continue
        for address in gone:
            recent.forget(address)
            queue(PendingLogin(*hits[address], answer=None))
