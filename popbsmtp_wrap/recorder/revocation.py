"""What goes with deleting rows: no login from before comes back, and the next one is written."""

import os
from collections.abc import Collection

from popbsmtp_wrap.config import Recorder
from popbsmtp_wrap.errors import PopbsmtpError, ServiceUnavailableError
from popbsmtp_wrap.recorder import control
from popbsmtp_wrap.spool.directory import lock
from popbsmtp_wrap.spool.remove import remove


def before(recorder: Recorder, addresses: Collection[str] | None) -> str | None:
    """Take *addresses*, None for all, out of what waits; return what went wrong.

    A running recorder does it, else this process.
    """
    try:
        try:
            control.tell(recorder.socket, "revoke", addresses)
        except ServiceUnavailableError:
            if os.path.isdir(recorder.spool):
                with lock(recorder.spool, recorder.spool_size) as spool:
                    remove(spool, addresses)
    except PopbsmtpError as error:
        return f"a login from before may come back from the spool: {error}"
    return None


def after(recorder: Recorder, addresses: Collection[str] | None) -> None:
    """Have a running recorder write the next login of *addresses*, None for all.

    It finds out by itself within a second or two, so what goes wrong is left to that.
    """
    try:
        control.tell(recorder.socket, "revoked", addresses)
    except PopbsmtpError:
        return
