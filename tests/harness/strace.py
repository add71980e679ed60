"""What a process asks of the kernel, in order."""

import re
from pathlib import Path

_CALL = re.compile(r"^\d+ +(\w+)\((.*)\) += (.*)$")
_INTERRUPTED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")

SYNCS = ("fsync", "fdatasync")


def traced(output: Path, *calls: str) -> list[str]:
    """Return what to put before a command so that its *calls* are written to *output*.

    The command is the child of who starts it, and the tracer a process beside it: signals and exit
    status are the command's.
    """
    names = ",".join([*SYNCS, *calls])
    # -y: the path of each descriptor.
    return [
        "strace",
        "-D",
        "-f",
        "-qq",
        "-y",
        "-s",
        "80",
        "-o",
        str(output),
        "-e",
        f"trace={names}",
    ]


def calls(output: Path) -> list[tuple[str, str, str]]:
    """Return (name, arguments, result) of the calls that have ended, in the order of their ends."""
    found, begun = [], {}
    for line in output.read_text(errors="replace").splitlines():
        if cut := _INTERRUPTED.match(line):
            begun[cut[1]] = cut[2]
            continue
        whole = line
        if rest := _RESUMED.match(line):
            whole = f"{rest[1]} {begun.pop(rest[1], '')}{rest[2]}"
        if call := _CALL.match(whole):
            found.append((call[1], call[2], call[3]))
    return found


def is_sync(call: tuple[str, str, str], name: str) -> bool:
    """Tell whether *call* has brought the file whose path ends in *name* to the disk."""
    return call[0] in SYNCS and call[1].endswith(f"{name}>") and call[2] == "0"
