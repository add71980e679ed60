"""What this machine holds of addresses that are revoked: recorders' memory, queues and spool.

The row itself keeps logins from before out, see store/tombstone.py. This is for what a row cannot
do: a request that a recorder has not read yet has no age, an address that `--all` does not find in
the table has no row, and what a recorder remembers it does not write again.
"""

import contextlib
import os
import time
from collections.abc import Collection
from typing import Final, NamedTuple

from popbsmtp_wrap.client import administration
from popbsmtp_wrap.config import Recorder, Settings
from popbsmtp_wrap.errors import PopbsmtpError, SpoolBusyError
from popbsmtp_wrap.recorder import lingering_sockets
from popbsmtp_wrap.spool.directory import Spool, lock
from popbsmtp_wrap.spool.remove import remove

# A recorder answers when what it was asked before is committed or spooled, which takes it two
# seconds at most.
_RECORDER_S: Final = 5.0
_AFTER_S: Final = 2.0
_SPOOL_S: Final = 1.0
# What a resolver that works needs at most, beside database.connect_timeout.
CONNECT_S: Final = 3.0


class Waiting(NamedTuple):
    """What became of the logins that wait on this machine.

    *recorders* are the sockets of those that are there and have confirmed; *trouble* is what may
    come back and what to do, None if nothing may.
    """

    recorders: list[str]
    trouble: str | None = None


def before(settings: Settings, addresses: Collection[str] | None) -> Waiting:
    """Take *addresses*, None for all, out of what waits on this machine.

    Running recorders do it, a resident one and those that logins have started; without a resident
    one this process looks into the spool. Each is waited for _RECORDER_S at most.
    """
    confirmed, troubles, is_resident = [], [], True
    for name, found in lingering_sockets.statuses(settings):
        try:
            if isinstance(found, PopbsmtpError):
                raise found
            administration.tell(name, "revoke", addresses, _RECORDER_S)
            confirmed.append(name)
        except administration.NobodyListensError:
            pass  # it has ended, and what it held is in the table or the spool
        except PopbsmtpError as error:
            troubles.append(_unread(error))
    try:
        administration.tell(settings.recorder.socket, "revoke", addresses, _RECORDER_S)
        confirmed.append(settings.recorder.socket)
    except administration.NobodyListensError:
        is_resident = False
    except PopbsmtpError as error:
        troubles.append(_unread(error))
    if not is_resident and (trouble := _empty_spool(settings.recorder, addresses)):
        troubles.append(trouble)
    return Waiting(confirmed, "; ".join(troubles) or None)


def _unread(error: PopbsmtpError) -> str:
    return (
        f"a login that the recorder has not read yet may come back: {error};"
        " once it answers, or is stopped, revoke again"
    )


def _empty_spool(recorder: Recorder, addresses: Collection[str] | None) -> str | None:
    try:
        if os.path.lexists(recorder.spool):
            with _locked(recorder) as spool:
                remove(spool, addresses)
    except PopbsmtpError as error:
        return f"a login from before may come back from the spool: {error}; then revoke again"
    return None


def _locked(recorder: Recorder) -> Spool:
    """Return the spool, locked; a recorder that drains it has it for moments. Raise SpoolError."""
    deadline = time.monotonic() + _SPOOL_S
    while True:
        try:
            return lock(recorder.spool, recorder.spool_size)
        except SpoolBusyError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def after(waiting: Waiting, addresses: Collection[str] | None) -> None:
    """Have the recorders that confirmed write the next login of *addresses*, None for all.

    They find out by themselves within a second or two, so what goes wrong is left to that.
    """
    for name in waiting.recorders:
        with contextlib.suppress(PopbsmtpError):
            administration.tell(name, "revoked", addresses, _AFTER_S)
