"""What the recorder does before its event loop runs: descriptors, the spool, its user."""

import contextlib
import os
import pwd
import resource
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import ConfigError, PopbsmtpError, RefusedError
from popbsmtp_wrap.server.listeners import user_of
from popbsmtp_wrap.spool import directory

# About 3 kB each.
_MOST_CONNECTIONS: Final = 4096
# For files, the database, and peers that are refused.
_OTHER_DESCRIPTORS: Final = 128


def fill_standard_descriptors() -> None:
    """Keep sockets and the database away from 0, 1 and 2 where those are closed: 2 is the log."""
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error
        pass
    os.close(null)


def raise_descriptor_limit(*, beyond: bool = False) -> int:
    """Return how many connections fit, after RLIMIT_NOFILE was raised as far as needed.

    *beyond* the hard limit, too, where we may: it was meant for somebody else.
    """
    wanted = _MOST_CONNECTIONS + _OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if beyond and hard != resource.RLIM_INFINITY and hard < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            soft = hard = wanted
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(_MOST_CONNECTIONS, soft - _OTHER_DESCRIPTORS))


def prepare_spool(settings: Settings) -> None:
    """Create the spool where that is permitted; Spooling reports what is wrong with it."""
    owner = settings.recorder.user if os.geteuid() == 0 else ""
    try:
        directory.prepare(settings.recorder.spool, owner)
    except ConfigError:
        raise
    except PopbsmtpError:
        pass


def drop_privileges(settings: Settings) -> None:
    """Become recorder.user, where root has started us and it is set. Raise RefusedError."""
    uid, gid = user_of(settings.recorder)
    if os.geteuid() != 0 or uid == 0:
        return
    try:
        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise RefusedError(f"cannot become {settings.recorder.user}: {error.strerror}") from None
