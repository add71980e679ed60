"""The running recorder: its database answers, and is the one that Postfix and the toolkit read.

Also the addresses from which so many users log in that they are not one client's.
"""

from collections.abc import Iterator
from typing import Any, Final

from popbsmtp_wrap.config import Recorder, Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.store.sqlite_files import identity, path_of

_SHARED_BY: Final = "NAT, webmail, a proxy without PROXY protocol or the gateway of a container"


def check_recorder(settings: Settings, status: dict[str, Any]) -> Iterator[Finding]:
    """Yield findings about where the recorder writes that says *status* of itself."""
    yield from _check_database(settings, status["database"])
    yield from _check_shared(settings.recorder, status.get("shared"))


def _check_database(settings: Settings, found: dict[str, Any]) -> Iterator[Finding]:
    if found["state"] != "up":
        yield Finding("FAIL", f"the recorder has no database: {found['error']}")
        return
    if settings.database.dialect != "sqlite":
        return
    path = path_of(settings.database)
    if found.get("file") == identity(path):
        yield Finding("ok", f"the recorder writes to {path}")
    else:
        yield Finding(
            "FAIL",
            f"the recorder writes to another file than {path}: {found['url']}",
            "run: systemctl reload popbsmtp, and see RootDirectory and mounts of its unit",
        )


def _check_shared(recorder: Recorder, shared: dict[str, Any] | None) -> Iterator[Finding]:
    """Yield the finding about shared addresses; *shared* is None of an older recorder."""
    if not shared or not shared["count"]:
        return
    listed = shared["addresses"]
    more = shared["count"] - len(listed)
    names = ", ".join(listed) + (f" and {more} more" if more else "")
    what = f"more than {recorder.shared_users} users of one address logged in within grace: {names}"
    if recorder.refuse_shared:
        effect = "logins from there are not recorded"
        advice = "let the server see their own addresses, or raise shared_users"
    else:
        effect = "everybody behind it may relay"
        advice = "put it into [ignore] networks, or set refuse_shared of [recorder]"
    yield Finding("warn", f"{what}; {effect}", f"if that is {_SHARED_BY}: {advice}")
