"""popbsmtp doctor: every link of the chain, one line each."""

import json
import sys
import time
from typing import Any

import click

from popbsmtp_wrap.cli.context import Invocation, pass_invocation
from popbsmtp_wrap.cli.generate import POSTFIX_DIRECTORY
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.errors import PopbsmtpError


@click.command()
@click.option(
    "--postfix-directory",
    metavar="DIR",
    default=POSTFIX_DIRECTORY,
    show_default=True,
    help="Check the Postfix with main.cf here.",
)
@click.option("--dovecot-config", metavar="FILE", help="Check this dovecot.conf.")
@pass_invocation
def doctor(invocation: Invocation, postfix_directory: str, dovecot_config: str | None) -> None:
    """Check every link of the chain, one line each.

    ok, warn or FAIL, and what to type. Exit status 1 if anything fails. A row for nobody's
    address (192.0.2.251) is written, asked for through postmap, and deleted again. Each socket of
    the recorder is asked with a login from loopback, which is not recorded.
    """
    from popbsmtp_wrap.doctor.database import check_database
    from popbsmtp_wrap.doctor.dovecot import check_dovecot
    from popbsmtp_wrap.doctor.expire_job import check_schedule
    from popbsmtp_wrap.doctor.postfix import check_postfix
    from popbsmtp_wrap.doctor.recorder import check_recorder
    from popbsmtp_wrap.doctor.sessions import check_sessions
    from popbsmtp_wrap.doctor.sockets import check_sockets
    from popbsmtp_wrap.doctor.spool import check_spool
    from popbsmtp_wrap.doctor.watch import check_watch

    settings = invocation.settings()
    failed = False
    status = _status_of_recorder(settings)
    click.echo(Finding("ok", f"configuration {invocation.config_path}"))
    for findings in (
        check_database(settings),
        check_sockets(settings),
        check_recorder(settings, status) if status else (),
        check_spool(settings, time.time(), status),
        check_postfix(settings, postfix_directory),
        check_dovecot(settings, invocation.config_path, dovecot_config),
        check_sessions(settings, dovecot_config),
        check_watch(settings),
        check_schedule(),
    ):
        for finding in findings:
            click.echo(finding)
            failed = failed or finding.level == "FAIL"
    sys.exit(1 if failed else 0)


def _status_of_recorder(settings: Settings) -> dict[str, Any] | None:
    """Return what the recorder says of itself; None, without one: check_sockets() tells why."""
    from popbsmtp_wrap.client import administration

    try:
        found: dict[str, Any] = json.loads(administration.ask_status(settings.recorder.socket))
    except (PopbsmtpError, ValueError):
        return None
    return found
