"""Sessions that stay open: the recorder's user may ask Dovecot for them."""

import os
import pwd
import re
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any, Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.dovecot.doveadm import find
from popbsmtp_wrap.dovecot.doveadm_output import ARGUMENTS, open_addresses
from popbsmtp_wrap.dovecot.doveconf import TIMEOUT_S, doveconf, services, setting

_SOCKET: Final = "anvil"
_LISTENER: Final = re.compile(r"^ +unix_listener anvil \{\n(.*?)^ +\}", re.MULTILINE | re.DOTALL)
_CUT_OFF: Final = "clients that stay connected may not send after grace"
_ADVICE: Final = "add the service anvil that popbsmtp dovecot prints, and restart Dovecot"


def check_sessions(settings: Settings, dovecot_config: str | None) -> Iterator[Finding]:
    """Yield the finding whether `doveadm who` answers the recorder's user.

    Of a Dovecot that does not run only the configuration is read.
    """
    command = find(settings.sessions.doveadm)
    if not settings.renew:
        yield Finding("ok", f"sessions.renew is off: {_CUT_OFF}")
        return
    if command is None:
        return  # and no Dovecot, as check_dovecot() says
    user = settings.recorder.user or "root"
    try:
        base_dir = doveconf(dovecot_config, "-h", "base_dir").strip()
        text = doveconf(dovecot_config, "-n")
    except (OSError, subprocess.SubprocessError):
        return  # check_dovecot() says so
    if dovecot_config and not settings.sessions.doveadm:
        command += ["-c", dovecot_config]
    if os.path.exists(os.path.join(base_dir, _SOCKET)):
        yield _ask(command, user)
    elif user in ("root", _owner(text)):
        yield Finding("ok", f"{user} may ask Dovecot for open sessions, once it runs")
    else:
        yield Finding("warn", f"{user} may not ask Dovecot for open sessions: {_CUT_OFF}", _ADVICE)


def _owner(text: str) -> str:
    """Return who owns anvil's socket by *text* (doveconf -n), "" for the default."""
    for name, body in services(text):
        if name == _SOCKET and (found := _LISTENER.search(body)):
            return setting(found[1], "user")
    return ""


def _ask(command: Sequence[str], user: str) -> Finding:
    """Return the finding on an answer of doveadm to *user*; only root can ask for another one."""
    try:
        printed = subprocess.run(
            [*command, *ARGUMENTS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=True,
            cwd="/",
            **_identity(user),
        ).stdout
        count = len(set(open_addresses(printed)))
    except KeyError:
        return Finding("warn", f"there is no user {user} (recorder.user)", "run: adduser")
    except subprocess.TimeoutExpired:
        trouble = f"no answer within {TIMEOUT_S} s"
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        trouble = said[-1] if said else f"it ends with {error.returncode}"
    except (OSError, ValueError) as error:
        trouble = str(error)
    else:
        return Finding("ok", f"{user} may ask Dovecot for open sessions; addresses now: {count}")
    return Finding("warn", f"doveadm who as {user}: {trouble}; {_CUT_OFF}", _ADVICE)


def _identity(user: str) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(user)
    groups = os.getgrouplist(user, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups}
