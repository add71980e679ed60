"""The running recorder: its database answers, and is the one that Postfix and the toolkit read."""

from collections.abc import Iterator
from typing import Any

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.store.files import identity, path_of


def check_recorder(settings: Settings, status: dict[str, Any]) -> Iterator[Finding]:
    """Yield findings about where the recorder writes that says *status* of itself."""
    found = status["database"]
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
