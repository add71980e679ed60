"""Whether outsiders can write lines into the logs that popbsmtp watch reads."""

import os
from collections.abc import Iterator
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.logs.forgery import advice, raw_program, syslog_daemons

# The end of a log, where programs that are in use have left lines.
_LOOK_AT: Final = 16 << 20


def check_watch(settings: Settings, root: str = "/") -> Iterator[Finding]:
    """Yield findings on the files of [watch], where a watcher has ever run; *root* for tests."""
    if not os.path.isdir(settings.watch.state):
        return
    daemons = syslog_daemons(root)
    fix = advice(daemons)
    for path in settings.watch.files:
        if path == "-":
            continue
        try:
            program = _raw_program_of(path)
        except OSError as error:
            yield Finding("FAIL", f"{path} cannot be watched: {error.strerror}", "see: ls -l")
            continue
        if program and fix:
            refused = settings.watch.forgeable == "refuse"
            yield Finding(
                "FAIL" if refused else "warn",
                f"clients of {program} can forge lines of {path}; its logins are"
                f" {'refused' if refused else 'recorded all the same'}",
                fix,
            )
        elif any(daemon.keeps for daemon in daemons):
            names = ", ".join(daemon.name for daemon in daemons if daemon.keeps)
            yield Finding(
                "warn",
                f"{names} writes line feeds of messages into {path}: a program that logs what"
                " clients send would let them forge logins",
                fix,
            )
        else:
            yield Finding("ok", f"{path} is watched")


def _raw_program_of(path: str) -> str:
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _LOOK_AT))
        return raw_program(file.read(_LOOK_AT).split(b"\n"))
