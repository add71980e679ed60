"""The popbsmtp command: argv in, one call, print; errors become messages and exit statuses."""

import os
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Final, NoReturn

import click

from popbsmtp_wrap import __version__, config
from popbsmtp_wrap.cli.context import Invocation
from popbsmtp_wrap.errors import PopbsmtpError

# As a shell says that SIGINT has ended a program.
_INTERRUPTED: Final = 130
# Where each command is. Only the one that runs is imported: cron starts them every few minutes.
MODULES: Final[Mapping[str, str]] = {
    name: module
    for module, names in {
        "logins": ("init", "record", "check", "list", "revoke", "expire"),
        "recorder": ("serve", "status", "flush", "renew"),
        "watch": ("watch",),
        "match": ("match",),
        "generate": ("postfix", "dovecot"),
        "doctor": ("doctor",),
        "demo": ("demo",),
        "configuration": ("config",),
    }.items()
    for name in names
}


class _Commands(click.Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in MODULES:
            return None
        module = import_module(f"popbsmtp_wrap.cli.{MODULES[cmd_name]}")
        # list would hide Python's, config the package that every command needs.
        name = f"{cmd_name}_" if cmd_name in ("list", "config") else cmd_name
        command: click.Command = getattr(module, name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
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
