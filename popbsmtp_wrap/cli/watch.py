"""The command that follows mail logs."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from popbsmtp_wrap import __version__
from popbsmtp_wrap.cli.context import Invocation, pass_invocation
from popbsmtp_wrap.cli.logins import list_
from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.config.passwords import masked
from popbsmtp_wrap.errors import ServiceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from popbsmtp_wrap.logs.event import Event, Kind
    from popbsmtp_wrap.watch.log_target import WatchLog


class _Grace(click.ParamType):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds as grace in popbsmtp.toml means them; a bad one is a usage error."""
        from popbsmtp_wrap.config.parsers import grace
        from popbsmtp_wrap.errors import BadValueError

        try:
            return grace(value)
        except BadValueError as error:
            self.fail(f"expected {error}.", param, ctx)


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option(
    "--watchlog",
    "--logfile",
    "more",
    metavar="FILE",
    multiple=True,
    help="Follow this log as well.",
)
@click.option("--server", "servers", metavar="NAME", multiple=True, help="Take this server alone.")
@click.option("--grace", metavar="DURATION", type=_Grace(), help="How long a login counts.")
@click.option("--state", metavar="DIRECTORY", help="Keep positions here.")
@click.option("--nowrite", is_flag=True, help="Record nothing; print logins.")
@click.option("--reprocess", is_flag=True, help="Read whole logs at their own times and end.")
@click.option("--daemon", "pid_path", metavar="PIDFILE", help="Go into the background.")
@click.option("--logto", metavar="FILE", help="Log to FILE, - (standard output) or syslog.")
@click.option("--debug", is_flag=True, help="Log every login, too.")
@click.option("--list", "show_list", is_flag=True, help="List logins and end.")
@click.option("--dumpconfig", is_flag=True, help="Print what would be done and end.")
@click.version_option(__version__, prog_name="popbsmtp")
@pass_invocation
@click.pass_context
def watch(
    context: click.Context,
    invocation: Invocation,
    files: tuple[str, ...],
    more: tuple[str, ...],
    servers: tuple[str, ...],
    grace: int | None,
    state: str | None,
    nowrite: bool,
    reprocess: bool,
    pid_path: str | None,
    logto: str | None,
    debug: bool,
    show_list: bool,
    dumpconfig: bool,
) -> None:
    """Record the logins found in mail logs.

    Follows each FILE, or those of watch.files, and hands logins to `popbsmtp serve`. FILE may be -
    for standard input, whose end is the end. Stays in the foreground. SIGTERM: save how far it came
    and exit with status 0. SIGHUP: read the configuration again and reopen the log.
    """
    chosen = tuple(one if one == "-" else os.path.abspath(one) for one in (*files, *more))
    changes: dict[str, Any] = {
        key: value
        for key, value in (
            ("files", chosen),
            ("servers", servers),
            ("state", state and os.path.abspath(state)),
        )
        if value
    }

    def load() -> Settings:
        settings = invocation.settings()
        settings = replace(settings, watch=replace(settings.watch, **changes))
        return settings if grace is None else replace(settings, grace=grace)

    target = logto or ("syslog" if pid_path else "stderr")
    if show_list or dumpconfig:
        if dumpconfig:
            _dump(invocation.config_path, load(), target)
        if show_list:
            context.invoke(list_)
    elif reprocess:
        _replay(load(), write=not nowrite, show=debug)
    else:
        if target not in ("-", "syslog", "stderr"):
            target = os.path.abspath(target)
        path = pid_path and os.path.abspath(pid_path)
        _run(load, target, path, record=not nowrite, verbose=debug or nowrite)


def _run(
    load: "Callable[[], Settings]",
    target: str,
    pid_path: str | None,
    *,
    record: bool,
    verbose: bool,
) -> None:
    # It would end the process until the event loop takes it (daemon/reload.py).
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])

    from popbsmtp_wrap.daemon.daemonize import Background, PidFile
    from popbsmtp_wrap.logs.checkpoint import Checkpoint
    from popbsmtp_wrap.watch.log_target import WatchLog
    from popbsmtp_wrap.watch.service import WatchService

    background = Background()
    # Whatever can be wrong is found while somebody looks at the terminal.
    with contextlib.ExitStack() as stack:
        settings = load()
        pid_file = PidFile(pid_path) if pid_path else None
        if pid_file:
            stack.callback(pid_file.close)
        state = Checkpoint(settings.watch.state) if record else None
        if state:
            stack.callback(state.close)
        log = WatchLog(target, verbose=verbose)
        service = WatchService(load, log, state)
        if pid_file:
            background.enter()
            pid_file.write()
            stack.callback(pid_file.remove)
        asyncio.run(service.watch(background.started))


def _replay(settings: Settings, *, write: bool, show: bool) -> None:
    from popbsmtp_wrap.networks import ignored_networks
    from popbsmtp_wrap.watch.line_handler import new_recogniser
    from popbsmtp_wrap.watch.log_target import WatchLog
    from popbsmtp_wrap.watch.replay import Replay, replay

    kinds: tuple[Kind, ...] = ("login",)
    replayed = Replay(settings.grace, ignored_networks(settings.ignore))
    for path in settings.watch.files:
        try:
            with contextlib.ExitStack() as stack:
                file: BinaryIO = sys.stdin.buffer
                if path != "-":
                    file = stack.enter_context(open(path, "rb", buffering=0))
                size = os.fstat(file.fileno()).st_size
                bar = click.progressbar(length=size, label=path, file=sys.stderr)
                # Logins would stand in the middle of it.
                mixed = show and sys.stdout.isatty()
                shown = size and sys.stderr.isatty() and not mixed
                update = stack.enter_context(bar).update if shown else _ignore
                recogniser = new_recogniser(settings, kinds)
                replay(replayed, recogniser, file, update, _show if show else None)
        except OSError as error:
            raise ServiceUnavailableError(f"{path}: {error.strerror}") from None
    found = replayed.open(time.monotonic())
    if write:
        asyncio.run(_deliver(settings, WatchLog("stderr", verbose=False), found))
    click.echo(
        f"{replayed.lines} lines, {replayed.logins} logins, {replayed.ignored} ignored,"
        f" {replayed.without_time} without a time"
    )
    at = f" at {_utc(replayed.now)}" if replayed.now is not None else ""
    click.echo(f"{len(found)} addresses may relay{at}{'' if write else '; none was recorded'}")


async def _deliver(settings: Settings, log: "WatchLog", found: list[Any]) -> None:
    from popbsmtp_wrap.watch.submission import Submission

    await Submission(settings, log).deliver(found)


def _ignore(count: int) -> None:
    """Show no progress."""


def _show(when: float, event: "Event") -> None:
    user = ascii(event.user)[1:-1]
    click.echo(f"{_utc(when)} {event.address} {event.service or '-'} {user} {event.server}")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")


def _dump(path: str, settings: Settings, target: str) -> None:
    from popbsmtp_wrap.logs.recogniser import server_names

    for name, value in (
        ("config", path),
        ("files", " ".join(settings.watch.files)),
        ("servers", " ".join(settings.watch.servers or server_names())),
        ("grace", f"{settings.grace} s"),
        ("renew", f"{settings.renew:g} s"),
        ("max_session", f"{settings.watch.max_session:g} s"),
        ("state", settings.watch.state),
        ("logto", target),
        ("recorder", settings.recorder.socket),
        ("spool", settings.recorder.spool),
        ("database", masked(settings.database.url)),
    ):
        click.echo(f"{name:<12}  {value}")
