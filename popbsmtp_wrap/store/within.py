"""Work on the database that a person waits for."""

import threading
from collections.abc import Callable
from typing import TypeVar

import sqlalchemy as sa

from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.store.engine import Store

Result = TypeVar("Result")


def within(connect_s: float, store: Store, work: Callable[[], Result]) -> Result:
    """Return what *work* gives, if *store* has its first connection within *connect_s* seconds.

    No time-out of a driver bounds a resolver that hangs. Raise StoreUnavailableError then, and
    leave the thread behind: it ends with the process.
    """
    connected_or_done = threading.Event()
    sa.event.listen(store.engine, "connect", lambda *_: connected_or_done.set())
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
        finally:
            connected_or_done.set()

    thread = threading.Thread(target=run, name="database", daemon=True)
    thread.start()
    if not connected_or_done.wait(connect_s):
        host = store.engine.url.host
        raise StoreUnavailableError(
            f"no connection to the database within {connect_s:g} s; check that the server is up"
            + (f", and that {host} resolves: getent hosts {host}" if host else "")
        )
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
