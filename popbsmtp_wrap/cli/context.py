"""What the commands share: the configuration, the store, an address as an argument."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from popbsmtp_wrap import config
from popbsmtp_wrap.address import canonical_address

if TYPE_CHECKING:
    from popbsmtp_wrap.store.engine import Store

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
