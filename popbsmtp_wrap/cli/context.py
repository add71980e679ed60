"""What the commands share: the configuration, the store, an address as an argument."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from popbsmtp_wrap import config
from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.errors import StoreUnavailableError

if TYPE_CHECKING:
    from popbsmtp_wrap.store.engine import Store

Result = TypeVar("Result")

# How long an administrator's statement may take; a server that is down shows sooner, at connect.
ADMINISTRATION_S = 60.0


@dataclass(frozen=True)
class Invocation:
    """The options before the command."""

    config_path: str
    debug: bool

    def settings(self) -> config.Settings:
        """Return the configuration. Raise ConfigError."""
        return config.load(self.config_path)


def open_administration(settings: config.Settings, *, stay_connected: bool = False) -> "Store":
    """Return the store with time for statements over the whole table."""
    from popbsmtp_wrap.store.engine import open_store

    return open_store(settings.database, ADMINISTRATION_S, stay_connected=stay_connected)


def open_lookup(settings: config.Settings) -> "Store":
    """Return the store for one row: a server that hangs shows within connect_timeout."""
    from popbsmtp_wrap.store.engine import open_store

    return open_store(settings.database)


def within(connect_s: float, store: "Store", work: Callable[[], Result]) -> Result:
    """Return what *work* gives, if *store* has its first connection within *connect_s* seconds.

    No time-out of a driver bounds a resolver that hangs. Raise StoreUnavailableError then, and
    leave the thread behind: it ends with the process.
    """
    import sqlalchemy as sa

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


class AddressType(click.ParamType):
    """A complete client address, given back in its canonical spelling."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the canonical address; a bad one is a usage error (exit status 2)."""
        try:
            return canonical_address(str(value))
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


ADDRESS = AddressType()
pass_invocation = click.make_pass_decorator(Invocation)
