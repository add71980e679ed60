"""The systemd journal, by `journalctl --output=json`.

One JSON object per line; what begins with an underscore is the journal's own word, which no program
that logs can forge (systemd.journal-fields(7)). A message counts only as the server's whose unit it
came from. https://systemd.io/JOURNAL_EXPORT_FORMATS/
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final, NamedTuple

from popbsmtp_wrap.logs.line_buffer import LineBuffer

_TRUSTED: Final = ("_SYSTEMD_UNIT", "_COMM", "_EXE")
_FIELDS: Final = ("MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "_PID", *_TRUSTED)
_PIECE: Final = 1 << 16
_ANY: Final = re.compile(r".+")
_IDENTIFIER: Final = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]{0,63}")
_NUMBER: Final = re.compile(r"[0-9]{1,10}")
_MICROSECONDS: Final = re.compile(r"[0-9]{16}")


class JournalEntry(NamedTuple):
    """A message as a line of a log, and the unit that it came from, "" for none that counts."""

    unit: str
    line: bytes
    cursor: str


def command(units: Iterable[str], cursor: str | None, since: float, *, follow: bool) -> list[str]:
    """Return what prints the journal behind *cursor*, or from *since*, Unix seconds, on.

    With *follow* it goes on, but has nothing from before the machine's last start: journalctl then
    means --boot as well.
    """
    start = f"--after-cursor={cursor}" if cursor else f"--since=@{since:.0f}"
    return [
        *("journalctl", "--all", "--quiet", "--no-pager", "--output=json"),
        f"--output-fields={','.join(_FIELDS)}",
        *(("--follow", "--no-tail") if follow else ()),
        start,
        # Alternatives, as they are of one field (journalctl(1)).
        *(f"_SYSTEMD_UNIT={unit}" for unit in units),
    ]


def parse(text: bytes) -> JournalEntry | None:
    """Return the entry in a line of JSON, None for any other line."""
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    if not isinstance(fields, dict) or not isinstance(cursor := fields.get("__CURSOR"), str):
        return None
    message = _bytes(fields.get("MESSAGE"))
    unit = _text(fields, "_SYSTEMD_UNIT")
    tag = _text(fields, "SYSLOG_IDENTIFIER", _IDENTIFIER)
    pid = _text(fields, "SYSLOG_PID", _NUMBER) or _text(fields, "_PID", _NUMBER)
    when = _text(fields, "__REALTIME_TIMESTAMP", _MICROSECONDS)
    complete = all((*(_text(fields, name) for name in _TRUSTED), tag, pid, when))
    # More than one line: the others would be somebody's who can write line ends.
    if not complete or b"\n" in message:
        return JournalEntry("", b"", cursor)
    line = f"{when[:10]}.{when[10:]} {tag}[{pid}]: ".encode("ascii") + message
    return JournalEntry(unit, line, cursor)


def _text(fields: dict[str, Any], name: str, pattern: re.Pattern[str] = _ANY) -> str:
    """Return the text of a field, "" where it is missing or something else."""
    value = fields.get(name)
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def _bytes(value: Any) -> bytes:
    """Return the bytes of a field: text, or a list of numbers where it is no UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    try:
        return bytes(value) if isinstance(value, list) else b""
    except (TypeError, ValueError):
        return b""


async def entries(words: list[str]) -> AsyncIterator[list[JournalEntry]]:
    """Yield what the program *words* prints, until it ends. Raise OSError if it cannot be run."""
    process = await asyncio.create_subprocess_exec(
        *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
    )
    lines = LineBuffer()
    try:
        while process.stdout and (data := await process.stdout.read(_PIECE)):
            if found := [entry for text in lines.feed(data) if (entry := parse(text))]:
                yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
