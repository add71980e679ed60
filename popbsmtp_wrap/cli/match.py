"""The command that tells what lines of a log are."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Final

import click

from popbsmtp_wrap.address import printable
from popbsmtp_wrap.cli.context import Invocation, pass_invocation
from popbsmtp_wrap.config import DEFAULT_PATH
from popbsmtp_wrap.own_pattern import OwnPattern
from popbsmtp_wrap.sources.logs.event import Event
from popbsmtp_wrap.sources.logs.lines import read_lines
from popbsmtp_wrap.sources.logs.recogniser import Recogniser
from popbsmtp_wrap.sources.logs.times import moment

_STDIN: Final = "-"
Lines = Iterator[tuple[int, bytes]]


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
        recogniser = Recogniser(servers, _own_patterns(invocation))
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint="'--server'") from None
    show = _shown_as_json if as_json else _shown
    several = len(files) > 1
    found = False
    for path in files or (_STDIN,):
        place = path if several else ""
        lines = _lines(path)
        if explain:
            found |= _explained(recogniser, lines, place)
        else:
            found |= _matched(recogniser, lines, lambda *what: show(place, *what))  # noqa: B023  # used at once
    if not found:
        sys.exit(1)


def _own_patterns(invocation: Invocation) -> tuple[OwnPattern, ...]:
    """Return the site's patterns; none where nothing has been configured yet."""
    if invocation.config_path == DEFAULT_PATH and not os.path.exists(DEFAULT_PATH):
        return ()
    return invocation.settings().watch.pattern


def _matched(
    recogniser: Recogniser,
    lines: Iterator[tuple[int, list[bytes]]],
    show: Callable[[int, Event], str],
) -> bool:
    """Print what counts, and failures where *show* does; return whether anything counts."""
    found = False
    recognise = recogniser.recognise
    for first, block in lines:
        shown = []
        for number, line in enumerate(block, first):
            event = recognise(line)
            if event is None:
                continue
            found = found or event.kind != "failure"
            shown.append(show(number, event))
        if any(shown):
            click.echo("\n".join(filter(None, shown)))
    return found


def _explained(
    recogniser: Recogniser, lines: Iterator[tuple[int, list[bytes]]], place: str
) -> bool:
    found = False
    for first, block in lines:
        for number, line in enumerate(block, first):
            event = recogniser.judge(line)
            if isinstance(event, str):
                click.echo(f"{_at(place, number)} nothing: {event}")
            else:
                found = found or event.kind != "failure"
                click.echo(_shown(place, number, event))
    return found


def _lines(path: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield lists of lines, each with the number of its first line."""
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
        for block in read_lines(file):
            yield number, block
            number += len(block)
            advance(sum(map(len, block)) + len(block))


def _at(place: str, number: int) -> str:
    return f"{place}:{number}:" if place else f"{number}:"


def _shown(place: str, number: int, event: Event) -> str:
    user = event.user if _plain(event.user) else printable(event.user)
    parts = (event.kind, event.server, event.address, user, event.service, _time(event) or "")
    return f"{_at(place, number)} {' '.join(part for part in parts if part)}"


def _plain(text: str) -> bool:
    return text.isprintable() and " " not in text


def _shown_as_json(place: str, number: int, event: Event) -> str:
    if event.kind == "failure":
        return ""
    entry = {
        "line": number,
        "event": event.kind,
        "server": event.server,
        "address": event.address,
        "user": event.user or None,
        "service": event.service or None,
        "time": _time(event),
    }
    return json.dumps({"file": place} | entry if place else entry)


def _time(event: Event) -> str | None:
    """Return the line's time as RFC 3339 in UTC, None when it says none."""
    seconds = moment(event.stamp, time.time())
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
