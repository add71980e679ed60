"""The command that tells what lines of a log are."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _quoted
from typing import Final

import click

from popbsmtp_wrap.address import printable
from popbsmtp_wrap.cli.context import Invocation, pass_invocation
from popbsmtp_wrap.config import DEFAULT_PATH
from popbsmtp_wrap.logs.event import Event, Kind
from popbsmtp_wrap.logs.file_lines import read_blocks
from popbsmtp_wrap.logs.recogniser import KINDS, Recogniser
from popbsmtp_wrap.logs.site_pattern import SitePattern
from popbsmtp_wrap.logs.timestamps import moment

_STDIN: Final = "-"


@click.command("match")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per login and logout.")
@click.option("--server", "servers", metavar="NAME", multiple=True, help="Look for this one only.")
@click.option("--explain", is_flag=True, help="Say of every line what it is, or why it is nothing.")
@click.argument(
    "files",
    metavar="[FILE]...",
    nargs=-1,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
)
@pass_invocation
def match(
    invocation: Invocation,
    as_json: bool,
    servers: tuple[str, ...],
    explain: bool,
    files: tuple[str, ...],
) -> None:
    """Tell logins and logouts in lines of a log.

    Reads FILEs, or standard input. Writes nothing into the table. Exit status 0 if there is a login
    or logout, 1 if there is none.
    """
    if as_json and explain:
        raise click.UsageError("Give either --json or --explain.")
    try:
        kinds: tuple[Kind, ...] = ("login", "logout") if as_json else KINDS
        recogniser = Recogniser(servers, _own_patterns(invocation), kinds)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="'--server'") from None
    show = _shown_as_json if as_json else _shown
    several = len(files) > 1
    found = False
    for path in files or (_STDIN,):
        place = path if several else ""
        blocks = _blocks(path)
        if explain:
            found |= _explained(recogniser, blocks, place)
        else:
            found |= _matched(recogniser, blocks, place, show)
    if not found:
        sys.exit(1)


def _own_patterns(invocation: Invocation) -> tuple[SitePattern, ...]:
    """Return the site's patterns; none where nothing has been configured yet."""
    if invocation.config_path == DEFAULT_PATH and not os.path.exists(DEFAULT_PATH):
        return ()
    return invocation.settings().watch.pattern


def _matched(
    recogniser: Recogniser,
    blocks: Iterator[tuple[int, bytes]],
    place: str,
    show: Callable[[str, int, Event, float], str],
) -> bool:
    """Print what counts, and failures; return whether anything counts."""
    found = False
    for first, block in blocks:
        now = time.time()
        shown = []
        for number, event in recogniser.events(block):
            found = found or event.kind != "failure"
            shown.append(show(place, first + number, event, now))
        if shown:
            click.echo("\n".join(shown))
    return found


def _explained(recogniser: Recogniser, blocks: Iterator[tuple[int, bytes]], place: str) -> bool:
    found = False
    for first, block in blocks:
        lines = block.split(b"\n")
        if block.endswith(b"\n"):
            lines.pop()
        for number, line in enumerate(lines, first):
            event = recogniser.judge(line)
            if isinstance(event, str):
                click.echo(f"{_at(place, number)} nothing: {event}")
            else:
                found = found or event.kind != "failure"
                click.echo(_shown(place, number, event, time.time()))
    return found


def _blocks(path: str) -> Iterator[tuple[int, bytes]]:
    """Yield many lines at once, with the number of the first one."""
    with ExitStack() as stack:
        if path == _STDIN:
            file = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115  # as it is
        else:
            file = stack.enter_context(open(path, "rb", buffering=0))
        advance: Callable[[int], None] = lambda _: None  # noqa: E731
        length = 0 if path == _STDIN else os.fstat(file.fileno()).st_size
        # What is found would stand in the middle of it.
        if length and sys.stderr.isatty() and not sys.stdout.isatty():
            bar = click.progressbar(length=length, label=path, file=sys.stderr)
            advance = stack.enter_context(bar).update
        number = 1
        for block in read_blocks(file):
            yield number, block
            number += block.count(b"\n")
            advance(len(block))


def _at(place: str, number: int) -> str:
    return f"{place}:{number}:" if place else f"{number}:"


def _shown(place: str, number: int, event: Event, now: float) -> str:
    user = event.user if _plain(event.user) else printable(event.user)
    parts = (
        event.kind,
        event.server,
        event.address,
        user,
        event.service,
        _utc(event.stamp, now) or "",
    )
    return f"{_at(place, number)} {' '.join(part for part in parts if part)}"


def _plain(text: str) -> bool:
    return text.isprintable() and " " not in text


def _shown_as_json(place: str, number: int, event: Event, now: float) -> str:
    # What json.dumps() writes, in a fraction of its time.
    kind, server, address, user, service, stamp = event
    file = f'"file": {_quoted(place)}, ' if place else ""
    name = _quoted(user) if user else "null"
    offered = _quoted(service) if service else "null"
    utc = _utc(stamp, now)
    at = f'"{utc}"' if utc else "null"
    return (
        f'{{{file}"line": {number}, "event": "{kind}", "server": "{server}", '
        f'"address": "{address}", "user": {name}, "service": {offered}, "time": {at}}}'
    )


# Lines of the same second come one after the other.
@lru_cache(1000)
def _utc(stamp: str, now: float) -> str | None:
    """Return a line's *stamp* as RFC 3339 in UTC, None when it is no time."""
    seconds = moment(stamp, now)
    if seconds is None:
        return None
    return _printed(int(seconds))


@lru_cache(1000)
def _printed(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
