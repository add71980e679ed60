"""Commands about the resident recorder and its spool."""

import json
import signal
from typing import Any

import click

from popbsmtp_wrap.cli.context import Invocation, open_administration, pass_invocation


@click.command()
@pass_invocation
def serve(invocation: Invocation) -> None:
    """Record logins as a resident process.

    Stays in the foreground. SIGTERM: answer who waits, and exit with status 0. SIGHUP: read the
    configuration again, except recorder.spool, log and user. Started by root it becomes
    recorder.user.
    """
    # It would end the process until the event loop takes it (daemon/reload.py).
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

    from popbsmtp_wrap.recorder import service

    service.run(invocation.settings)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_invocation
def status(invocation: Invocation, as_json: bool) -> None:
    """Show what the running recorder does.

    Without a resident one, that which a login has started.
    """
    from popbsmtp_wrap.recorder import lingering_sockets

    found = lingering_sockets.any_status(invocation.settings())
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for name, value in _lines(found):
        click.echo(f"{name:<24}  {value}")


def _lines(found: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in found.items():
        if isinstance(value, dict):
            lines += _lines(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            lines += [(f"{prefix}{name}", " ".join(value))] if value else []
        elif value is not None:
            lines.append((f"{prefix}{name}", value))
    return lines


@click.command()
@pass_invocation
def flush(invocation: Invocation) -> None:
    """Write spooled logins into the table; for cron.

    Prints the count. A running recorder does this by itself.
    """
    from popbsmtp_wrap.recorder.flush import flush as drain

    settings = invocation.settings()
    done = drain(open_administration(settings), settings)
    for line in done.problems:
        click.echo(f"popbsmtp: {line}", err=True)
    click.echo(done.committed)


@click.command()
@pass_invocation
def renew(invocation: Invocation) -> None:
    """Keep clients authorised that are still connected; for cron.

    Asks Dovecot (sessions.doveadm) which sessions are open, renews the rows that their addresses
    have, and prints how many those are. A running recorder does this by itself.
    """
    import asyncio

    from popbsmtp_wrap.recorder.session_renewal import renew_once

    click.echo(asyncio.run(renew_once(invocation.settings())))
