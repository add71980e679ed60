"""popbsmtp demo: the whole way of a login, with real programs, in a temporary directory."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import click

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.postfix import map_files
from popbsmtp_wrap.programs import search_path
from popbsmtp_wrap.wrapper import installer

CLIENT = "198.51.100.7"  # documentation address, RFC 5737
AGE_S = 31 * 60
_TIMEOUT_S = 30
_MAP = "popbsmtp-sqlite.cf"
# All that a command may touch: a recorder of this machine, its spool and its Postfix are not asked.
_CONFIGURATION = """\
[database]
url = "sqlite:///{directory}/popbsmtp.db"

[recorder]
socket = "{directory}/login.sock"
spool = "{directory}/spool"

[wrapper]
wait = "30s"
linger = "0"

[ignore]
postfix_mynetworks = false

[watch]
state = "{directory}/watch"
"""
_MAIL_PROGRAM = """\
#!/bin/sh
echo "* PREAUTH mail program in process $$: IP=$IP USER=$USER"
"""


class _OtherwiseError(PopbsmtpError):
    """A step went otherwise than it has to."""


@dataclass(frozen=True)
class Stage:
    """Where the demo plays: its directory and the programs it runs."""

    directory: str
    popbsmtp: Sequence[str]
    wrapper: Sequence[str]

    def run(self, shown: str, command: Sequence[str], **environment: str) -> tuple[int, str, int]:
        """Show and run a command; return (exit status, its output, its process id)."""
        click.echo(f"$ {shown}")
        with subprocess.Popen(
            command,
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "MAIL_CONFIG": self.directory, **environment},
        ) as process:
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        click.echo("".join(f"  {line}\n" for line in output.splitlines()), nl=False)
        return process.returncode, output, process.pid

    def toolkit(self, *arguments: str) -> str:
        """Show and run a command of popbsmtp; return its output. Raise when it fails."""
        words = ["-c", "popbsmtp.toml", *arguments]
        status, output, _ = self.run(" ".join(["popbsmtp", *words]), [*self.popbsmtp, *words])
        if status != 0:
            raise _OtherwiseError(f"popbsmtp {arguments[0]} ended with {status}")
        return output


@click.command()
def demo() -> None:
    """Show the whole way on a temporary SQLite store."""
    with tempfile.TemporaryDirectory(prefix="popbsmtp-demo-") as directory:
        stage = Stage(
            directory, [os.path.abspath(sys.argv[0])], installer.command_beside(sys.argv[0])
        )
        try:
            play(stage)
        except (_OtherwiseError, OSError, subprocess.TimeoutExpired) as error:
            raise PopbsmtpError(f"demo: {error}") from None
    click.echo("demo: OK")


def play(stage: Stage) -> None:
    """Go the whole way once. Raise _OtherwiseError at the first step that goes otherwise."""
    _write(stage, "popbsmtp.toml", _CONFIGURATION.format(directory=stage.directory))
    # Instead of this machine's: postmap(1) reads it.
    _write(stage, "main.cf", "")
    _write(stage, "imap", _MAIL_PROGRAM, mode=0o755)

    _say("A store and a Postfix map for it:")
    stage.toolkit("init")
    stage.toolkit("postfix", "--output", ".")

    _say("Before the login the client may not relay:")
    _expect(stage, permitted=False)

    _say("The client reads its mail; the wrapper stands in front of the mail program:")
    # The wrapper asks the recorder of this machine unless it is told otherwise.
    options = ["--config", "popbsmtp.toml", "--socket", "login.sock", "--wait", "30"]
    status, output, pid = stage.run(
        f"IP=::ffff:{CLIENT} USER=alice popbsmtp-wrap {' '.join(options)} ./imap",
        [*stage.wrapper, *options, "./imap"],
        IP=f"::ffff:{CLIENT}",
        USER="alice",
    )
    if status != 0 or f"mail program in process {pid}: IP=::ffff:{CLIENT}" not in output:
        raise _OtherwiseError("the mail program was not exec'ed")
    click.echo(f"  (the wrapper was process {pid}, too: it became the mail program)")

    _say("After the login it may:")
    _expect(stage, permitted=True)
    if CLIENT not in stage.toolkit("list"):
        raise _OtherwiseError(f"{CLIENT} is not in the list")

    _say("31 minutes later it may not any more:")
    _age(stage)
    _expect(stage, permitted=False)
    if stage.toolkit("expire").strip() != "1":
        raise _OtherwiseError("expire did not delete the one old row")


def _expect(stage: Stage, *, permitted: bool) -> None:
    """Ask the generated map, through Postfix where it is installed."""
    if "sqlite" in map_files.installed_map_types():
        shown = f"postmap -q {CLIENT} sqlite:./{_MAP}"
        _, output, _ = stage.run(shown, shown.split(), PATH=search_path())
        found = output.strip() == "OK"
        if not output:
            click.echo("  (no answer: refused)")
    else:
        click.echo(f"  (no Postfix with SQLite here: the map's own query is run for {CLIENT})")
        found = _query(stage)
        click.echo("  OK" if found else "  (no row: refused)")
    if found != permitted:
        raise _OtherwiseError(f"the lookup permits: {found}, expected: {permitted}")


def _query(stage: Stage) -> bool:
    from popbsmtp_wrap.store.engine import open_store
    from popbsmtp_wrap.store.lookup_query import map_permits

    settings = config.load(f"{stage.directory}/popbsmtp.toml")
    return map_permits(open_store(settings.database), settings, CLIENT)


def _age(stage: Stage) -> None:
    """Set the one row back, as time would."""
    from popbsmtp_wrap.store.engine import open_store, transaction

    statement = f"UPDATE popbsmtp SET last_seen = last_seen - {AGE_S}"  # noqa: S608 - a constant
    click.echo(f"  (SQL: {statement})")
    settings = config.load(f"{stage.directory}/popbsmtp.toml")
    with transaction(open_store(settings.database)) as connection:
        connection.exec_driver_sql(statement)


def _write(stage: Stage, name: str, text: str, mode: int = 0o644) -> None:
    path = os.path.join(stage.directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)


def _say(text: str) -> None:
    click.echo(f"\n{text}")
