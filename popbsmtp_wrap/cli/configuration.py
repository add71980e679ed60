"""`popbsmtp config`: the configuration in force."""

import json

import click

from popbsmtp_wrap import config
from popbsmtp_wrap.cli.context import Invocation, pass_invocation


@click.command("config")
@click.option("--check", is_flag=True, help="Only check it: status 0, or 78 with what is wrong.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON, without comments.")
@pass_invocation
def config_(invocation: Invocation, check: bool, as_json: bool) -> None:
    """Print the configuration in force.

    All keys, with defaults for those that neither the file nor its directory popbsmtp.d sets;
    passwords are masked. No database is needed.
    """
    from popbsmtp_wrap.config.reference import in_force, render

    invocation.settings()
    if check:
        return
    found = in_force(config.read(invocation.config_path).values)
    click.echo(json.dumps(found, indent=2) if as_json else render(found), nl=as_json)
