"""The popbsmtp command: argv in, one call, print; errors become messages and exit statuses."""

import sys
from typing import NoReturn

import click

from popbsmtp_wrap import __version__, config
from popbsmtp_wrap.cli.context import Invocation
from popbsmtp_wrap.cli.demo import demo
from popbsmtp_wrap.cli.doctor import doctor
from popbsmtp_wrap.cli.generate import dovecot, postfix
from popbsmtp_wrap.cli.logins import check, expire, init, list_, record, revoke
from popbsmtp_wrap.cli.match import match
from popbsmtp_wrap.cli.recorder import flush, renew, serve, status
from popbsmtp_wrap.cli.watch import watch
from popbsmtp_wrap.errors import PopbsmtpError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="popbsmtp")
@click.option(
    "-c",
    "--config",
    "config_path",
    metavar="FILE",
    default=config.DEFAULT_PATH,
    show_default=True,
    help="Read this configuration.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def popbsmtp(context: click.Context, config_path: str, debug: bool) -> None:
    """POP-before-SMTP: a mail login opens the relay for a while.

    Exit status: 0; 1 negative answer or failed check; 2 usage; 69 service unavailable; 75 try
    again; 77 permission; 78 configuration.
    """
    context.obj = Invocation(config_path, debug)


for command in (
    *(init, record, check, list_, revoke, expire),
    *(serve, watch, status, flush, renew, match, postfix, dovecot, doctor, demo),
):
    popbsmtp.add_command(command)


def main() -> NoReturn:
    """Run popbsmtp and exit."""
    debug = "--debug" in sys.argv[1:]
    try:
        popbsmtp(prog_name="popbsmtp")
    except PopbsmtpError as error:
        if debug:
            raise
        click.echo(f"popbsmtp: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has seen enough.
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        click.echo(f"popbsmtp: {kind}: {error} (--debug shows where)", err=True)
        sys.exit(1)
    sys.exit(0)
