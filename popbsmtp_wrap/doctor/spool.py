"""The spool: safe from other users, and drained."""

import os
import pwd
import stat
from collections.abc import Iterator
from typing import Any, Final

from popbsmtp_wrap.config import Recorder, Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.spool.directory import BAD, SEGMENT, depth, names

# The recorder drains at once while the database answers.
_SOON_S: Final = 60


def check_spool(
    settings: Settings, now: float, status: dict[str, Any] | None = None
) -> Iterator[Finding]:
    """Yield findings about the spool directory; *now* is the Unix time.

    *status* is what the recorder says of itself, None when none answers.
    """
    recorder = settings.recorder
    try:
        folder = os.stat(recorder.spool)
        waiting = names(recorder.spool, SEGMENT)
        bad = names(recorder.spool, BAD)
    except FileNotFoundError:
        yield _missing(recorder)
        return
    except PermissionError:
        yield Finding("warn", f"{recorder.spool} is closed for this user", "run this as root")
        return
    except NotADirectoryError:
        yield Finding("FAIL", f"{recorder.spool} is no directory", "remove it")
        return
    findings = [
        *_check_owner(recorder, folder),
        *_check_bad(recorder.spool, bad),
        *_check_waiting(recorder.spool, waiting, now, status),
    ]
    yield from findings or [Finding("ok", f"spool {recorder.spool} is right, and nothing waits")]


def _missing(recorder: Recorder) -> Finding:
    what = f"no spool {recorder.spool}: a login that the database does not take in time is lost"
    if any(os.path.exists(path) for path in recorder.sockets):
        user = recorder.user or "root"
        return Finding("warn", what, f"run: install -d -m 0700 -o {user} {recorder.spool}")
    return Finding("ok", what)


def _check_owner(recorder: Recorder, status: os.stat_result) -> Iterator[Finding]:
    if status.st_mode & stat.S_IWOTH:
        yield Finding(
            "FAIL",
            f"everybody may write to {recorder.spool}, and so open the relay",
            f"run: chmod o-w {recorder.spool}",
        )
    if not recorder.user:
        return
    try:
        owner = pwd.getpwnam(recorder.user).pw_uid
    except KeyError:
        yield Finding("warn", f"there is no user {recorder.user} (recorder.user)", "run: adduser")
        return
    if status.st_uid != owner:
        yield Finding(
            "warn",
            f"{recorder.spool} does not belong to {recorder.user}, who runs the recorder",
            f"run: chown {recorder.user} {recorder.spool}",
        )


def _check_bad(folder: str, bad: list[str]) -> Iterator[Finding]:
    if bad:
        yield Finding(
            "warn",
            f"{len(bad)} set aside in {folder}, where a record could not be read: {bad[0]}",
            "look at it, then remove it",
        )


def _check_waiting(
    folder: str, segments: list[str], now: float, status: dict[str, Any] | None
) -> Iterator[Finding]:
    try:
        found = depth(folder)
    except SpoolError:
        return  # it was there a moment ago
    if not segments or not found.bytes:
        return
    # The oldest comes first; its name says in nanoseconds when it was begun.
    oldest_s = max(0, int(now - int(segments[0].partition("-")[0]) / 1e9))
    # A file that we may not read has nothing to count.
    count = {0: "logins wait", 1: "1 login waits"}.get(
        found.records, f"{found.records} logins wait"
    )
    what = f"{count} in {folder}, the oldest for {oldest_s} s"
    if status is None:
        yield Finding("warn", what, "start popbsmtp serve, or run: popbsmtp flush")
    elif status["spool"]["directory"] != folder:
        yield Finding(
            "warn",
            f"{what}; the recorder uses {status['spool']['directory']}",
            "run: systemctl restart popbsmtp",
        )
    elif status["database"]["state"] != "up":
        yield Finding(
            "warn", f"{what}: the recorder has no database", "get it back; they are written then"
        )
    elif oldest_s > _SOON_S:
        trouble = status["spool"]["error"]
        yield Finding(
            "warn",
            f"{what}, and the recorder does not write them" + (f": {trouble}" if trouble else ""),
            "see: popbsmtp status; journalctl -u popbsmtp",
        )
    else:
        yield Finding("ok", f"{what}; the recorder writes them now")
