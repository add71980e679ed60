"""Whether Dovecot's configuration starts the wrapper, and how."""

import os
import re
import subprocess
from collections.abc import Iterator

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.access import check_access, runners
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.lookup.files import search_path
from popbsmtp_wrap.sources.launcher import is_launcher, source_path

_TIMEOUT_S = 10
_ADVICE = "paste what popbsmtp dovecot prints and reload Dovecot"


def check_dovecot(
    settings: Settings, config_path: str, dovecot_config: str | None
) -> Iterator[Finding]:
    """Yield findings about the running configuration, or that of *dovecot_config*.

    *config_path* is where *settings* come from.
    """
    try:
        text = _doveconf(dovecot_config, "-n")
        yield from _check_text(text)
        internal_user = _doveconf(dovecot_config, "-h", "default_internal_user").strip()
        for runner in dict.fromkeys(runners(text, internal_user)):
            yield from check_access(settings, config_path, runner)
    except FileNotFoundError:
        yield Finding("warn", "no Dovecot here")
    except subprocess.TimeoutExpired:
        yield Finding("FAIL", f"doveconf gives no answer within {_TIMEOUT_S} s")
    except subprocess.CalledProcessError as error:
        yield Finding("FAIL", (error.stderr.strip().splitlines() or ["doveconf: no message"])[-1])


def _doveconf(config_path: str | None, *arguments: str) -> str:
    """Return what doveconf(1) prints."""
    return subprocess.run(
        ["doveconf", *(["-c", config_path] if config_path else []), *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
        env={**os.environ, "PATH": search_path()},
    ).stdout


def _check_text(text: str) -> Iterator[Finding]:
    executables = re.findall(r"^\s*(?:mail_)?executable = (.*)$", text, re.MULTILINE)
    wrappers = [e for e in executables if "popbsmtp-wrap" in e or source_path() in e]
    if not wrappers:
        yield Finding("FAIL", "Dovecot does not start popbsmtp-wrap", _ADVICE)
        return
    yield from dict.fromkeys(
        finding for executable in wrappers for finding in _check_executable(executable)
    )
    # 1.x names the wrapper in the protocol itself.
    if "script-login" not in " ".join(wrappers):
        return
    for service in ("imap", "pop3"):
        named = [e for e in executables if re.fullmatch(rf"{service} \S+-postlogin\S*", e)]
        if named:
            yield Finding("ok", f"service {service} runs {named[0].split()[1]}")
        elif re.search(rf"^\s*protocols = .*\b{service}\b", text, re.MULTILINE):
            yield Finding("warn", f"service {service} does not run a post-login script", _ADVICE)


def _check_executable(executable: str) -> Iterator[Finding]:
    words = executable.split(" ")
    wrapper = next((w for w in words if "popbsmtp-wrap" in w or w == source_path()), "")
    if "" in words:
        yield Finding("FAIL", f"two blanks in executable = {executable!r}: no login works", _ADVICE)
    elif not os.path.exists(wrapper):
        yield Finding("FAIL", f"{wrapper} does not exist: no login works", _ADVICE)
    elif not is_launcher(wrapper):
        yield Finding(
            "warn",
            f"{wrapper} does not start Python as -I -S: slower, and it heeds the environment",
            f"run: popbsmtp dovecot --install-wrapper {wrapper}",
        )
    else:
        yield Finding("ok", f"Dovecot starts {wrapper}")
