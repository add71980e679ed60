"""Commands about logins in the table."""

import json
from datetime import UTC, datetime

import click

from popbsmtp_wrap.cli.context import (
    ADDRESS,
    Invocation,
    open_administration,
    open_lookup,
    pass_invocation,
)
from popbsmtp_wrap.errors import PopbsmtpError, SchemaError, StoreUnavailableError
from popbsmtp_wrap.login import make_login
from popbsmtp_wrap.networks import ignored_networks, why_ignored

# What RFC 3339 can write of the times that an old table may hold: years 1 to 9999.
_FIRST_SECOND, _LAST_SECOND = -62135596800, 253402300799


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL instead of running it.")
@pass_invocation
def init(invocation: Invocation, sql: bool) -> None:
    """Create the table, or check the one that is there."""
    from popbsmtp_wrap.store import setup, sqlite_files

    settings = invocation.settings()
    store = open_administration(settings)
    if sql:
        click.echo(setup.create_sql(store), nl=False)
        return
    if settings.database.dialect == "sqlite":
        for line in sqlite_files.prepare(settings.database):
            click.echo(line)
    created = setup.create(store)
    table = settings.database.table
    if created:
        click.echo(f"created table {table}")
        return
    differences = setup.differences(store)
    found = [difference for difference in differences if not difference.harmless]
    for difference in differences:
        if difference.harmless:
            click.echo(f"popbsmtp: {difference.what}", err=True)
    if not found:
        click.echo(f"table {table} is right")
        return
    click.echo(f"table {table} is there, but:", err=True)
    for difference in found:
        click.echo(f"  {difference.what}", err=True)
    statements = [difference.sql for difference in found if difference.sql]
    if statements:
        click.echo("change it with this SQL:", err=True)
        click.echo("".join(f"{statement.rstrip(';')};\n" for statement in statements), nl=False)
        raise SchemaError(f"table {table} has to be changed first; then run: popbsmtp init")
    raise SchemaError(f"table {table} cannot serve; name another in database.table")


@click.command()
@click.argument("address", type=ADDRESS)
@click.option("--user", metavar="NAME", help="Who logged in.")
@click.option("--service", metavar="NAME", help="By which service, such as imap or pop3.")
@pass_invocation
def record(invocation: Invocation, address: str, user: str | None, service: str | None) -> None:
    """Record a login from ADDRESS, as the wrapper does."""
    from popbsmtp_wrap.store import upsert

    settings = invocation.settings()
    if reason := why_ignored(address, ignored_networks(settings.ignore)):
        raise PopbsmtpError(f"not recorded: {reason}")
    upsert.record(open_lookup(settings), make_login(address, user, service))
    click.echo(f"{address} may relay for {settings.grace} s")


@click.command()
@click.argument("address", type=ADDRESS)
@pass_invocation
def check(invocation: Invocation, address: str) -> None:
    """Tell whether ADDRESS may relay now.

    Exit status 0 and the seconds that are left, or 1.
    """
    from popbsmtp_wrap.store import queries

    settings = invocation.settings()
    left_s = queries.remaining_s(open_lookup(settings), address, settings.grace)
    if left_s is None:
        raise PopbsmtpError(f"{address} may not relay")
    click.echo(left_s)


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@pass_invocation
def list_(invocation: Invocation, as_json: bool) -> None:
    """List logins, newest first."""
    from popbsmtp_wrap.store import queries

    settings = invocation.settings()
    found = queries.rows(open_administration(settings), settings.grace)
    if as_json:
        entries = [
            {
                "address": row.address,
                "user": row.user,
                "service": row.service,
                "first_seen": _utc(row.first_seen),
                "last_seen": _utc(row.last_seen),
                "expires_at": _utc(row.last_seen + settings.grace),
                "remaining_s": row.remaining_s if row.may_relay else min(row.remaining_s, -1),
            }
            for row in found
        ]
        click.echo(json.dumps(entries, indent=2))
        return
    for row in found:
        left = _left(row.remaining_s) if row.may_relay else _why_not(row.remaining_s)
        who = " ".join(text for text in (row.service, row.user) if text)
        click.echo(f"{row.address:<39}  {left:>9}  {_utc(row.last_seen)}  {who}".rstrip())


@click.command()
@click.argument("addresses", metavar="ADDRESS...", type=ADDRESS, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Revoke every address of the table.")
@pass_invocation
def revoke(invocation: Invocation, addresses: tuple[str, ...], everything: bool) -> None:
    """Revoke addresses: they may not relay until the next login.

    No login from before counts afterwards, wherever it waits. Prints how many had logged in. Exit
    status 75 if the recorder or the spool of this machine did not confirm it: the row is revoked
    all the same.
    """
    from popbsmtp_wrap.recorder import revocation
    from popbsmtp_wrap.store import removal
    from popbsmtp_wrap.store.within import within

    if bool(addresses) == everything:
        raise click.UsageError("Give either addresses or --all.")
    settings, chosen = invocation.settings(), None if everything else addresses
    waiting = revocation.before(settings, chosen)
    if waiting.trouble:
        click.echo(f"popbsmtp: {waiting.trouble}", err=True)
    store = open_administration(settings)
    connect_s = revocation.CONNECT_S + settings.database.connect_timeout
    count = within(connect_s, store, lambda: removal.revoke(store, chosen))
    click.echo(count)
    revocation.after(waiting, chosen)
    if waiting.trouble:
        raise StoreUnavailableError("revoked in the table; run the same again to have it confirmed")


@click.command()
@click.option("--dry-run", is_flag=True, help="Count, delete nothing.")
@pass_invocation
def expire(invocation: Invocation, dry_run: bool) -> None:
    """Delete what is older than grace and print the count."""
    from popbsmtp_wrap.store import removal

    settings = invocation.settings()
    store = open_administration(settings, stay_connected=True)
    count = removal.expired_count if dry_run else removal.expire
    click.echo(count(store, settings.grace))


def _utc(seconds: int | None) -> str | None:
    """Return Unix *seconds* as RFC 3339 in UTC."""
    if seconds is None:
        return None
    shown = min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    return datetime.fromtimestamp(shown, UTC).isoformat().replace("+00:00", "Z")


def _left(remaining_s: int) -> str:
    return f"{remaining_s // 60}m {remaining_s % 60:02d}s left"


def _why_not(remaining_s: int) -> str:
    # What is neither fresh nor expired lies ahead of the database's clock, and may not relay.
    return "expired" if remaining_s < 0 else "in future"
