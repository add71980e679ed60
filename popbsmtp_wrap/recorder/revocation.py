"""What this machine holds of addresses that are revoked: a recorder's memory, queue and spool.

The row itself keeps logins from before out, see store/tombstone.py. This is for what a row cannot
do: a request that a recorder has not read yet has no age, an address that `--all` does not find in
the table has no row, and what a recorder remembers it does not write again.
"""

import os
from collections.abc import Collection
from typing import Final, NamedTuple

from popbsmtp_wrap.client import administration
from popbsmtp_wrap.config import Recorder
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.spool.directory import lock
from popbsmtp_wrap.spool.remove import remove

# A recorder answers when what it was asked before is committed or spooled, which takes it two
# seconds at most.
_RECORDER_S: Final = 5.0
_AFTER_S: Final = 2.0
# What a resolver that works needs at most, beside database.connect_timeout.
CONNECT_S: Final = 3.0


class Waiting(NamedTuple):
    """What became of the logins that wait on this machine.

    *recorder* tells whether one is there and has confirmed; *trouble* is what may come back and
    what to do, None if nothing may.
    """

    recorder: bool
    trouble: str | None = None


def before(recorder: Recorder, addresses: Collection[str] | None) -> Waiting:
    """Take *addresses*, None for all, out of what waits on this machine.

    A running recorder does it, else this process. Bounded by _RECORDER_S.
    """
    try:
        administration.tell(recorder.socket, "revoke", addresses, _RECORDER_S)
    except administration.NobodyListensError:
        return Waiting(False, _empty_spool(recorder, addresses))
    except PopbsmtpError as error:
        return Waiting(
            False,
            f"a login that the recorder has not read yet may come back: {error};"
            " once it answers, or is stopped, revoke again",
        )
    return Waiting(True)


def _empty_spool(recorder: Recorder, addresses: Collection[str] | None) -> str | None:
    try:
        if os.path.lexists(recorder.spool):
            with lock(recorder.spool, recorder.spool_size) as spool:
                remove(spool, addresses)
    except PopbsmtpError as error:
        return f"a login from before may come back from the spool: {error}; then revoke again"
    return None


def after(recorder: Recorder, addresses: Collection[str] | None) -> None:
    """Have a running recorder write the next login of *addresses*, None for all.

    It finds out by itself within a second or two, so what goes wrong is left to that.
    """
    try:
        administration.tell(recorder.socket, "revoked", addresses, _AFTER_S)
    except PopbsmtpError:
        return
