"""The popbsmtp command: argv in, one call, print; errors become messages and exit statuses."""

import os
import sys
import traceback
from typing import Final, NoReturn

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

# As a shell says that SIGINT has ended a program.
_INTERRUPTED: Final = 130


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

    Exit status: 0; 1 negative answer or failed check; 2 usage; 69 service unavailable; 70
    unexpected error; 74 output not written; 75 try again; 77 permission; 78 configuration.
    """
    context.obj = Invocation(config_path, debug)


for command in (
    *(init, record, check, list_, revoke, expire),
    *(serve, watch, status, flush, renew, match, postfix, dovecot, doctor, demo),
):
    popbsmtp.add_command(command)


def main() -> NoReturn:
    """Run popbsmtp and exit.

    Status 1 is an answer: "may not relay", or a check that failed. Nothing that went wrong ends
    with it.
    """
    try:
        # Unless it is told not to, click ends with 1 for all that it does not know.
        status = popbsmtp(prog_name="popbsmtp", standalone_mode=False)
    except PopbsmtpError as error:
        _end(error, str(error), error.exit_code)
    except click.UsageError as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_INTERRUPTED)
    except SystemExit:
        # The reader of our output has seen enough: click's own end, which says 1.
        if type(sys.stdout).__name__.endswith("PacifyFlushWrapper"):
            sys.exit(os.EX_IOERR)
        raise
    except Exception as error:  # noqa: BLE001 - a bug here or in a library
        text = " ".join(str(error).split())
        hint = "(--debug shows where)"
        _end(error, f"unexpected {type(error).__name__}: {text} {hint}", os.EX_SOFTWARE)
    # Of --help, --version and the like; no command returns anything.
    sys.exit(status or 0)


def _end(error: Exception, message: str, status: int) -> NoReturn:
    if "--debug" in sys.argv[1:]:
        traceback.print_exception(error)
    click.echo(f"popbsmtp: {message}", err=True)
    sys.exit(status)
