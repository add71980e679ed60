"""Whether Dovecot's configuration starts the wrapper or asks the recorder, and how."""

import os
import re
import subprocess
from collections.abc import Iterator

from popbsmtp_wrap.config import Recorder, Settings
from popbsmtp_wrap.doctor.access import check_access, runners
from popbsmtp_wrap.doctor.finding import Finding
from popbsmtp_wrap.dovecot.doveconf import TIMEOUT_S, doveconf, services, setting
from popbsmtp_wrap.wrapper.installer import is_launcher, source_path

_ADVICE = "paste what popbsmtp dovecot prints and reload Dovecot"


def check_dovecot(
    settings: Settings, config_path: str, dovecot_config: str | None
) -> Iterator[Finding]:
    """Yield findings about the running configuration, or that of *dovecot_config*.

    *config_path* is where *settings* come from.
    """
    try:
        text = doveconf(dovecot_config, "-n")
        yield from _check_text(text, settings.recorder)
        internal_user = doveconf(dovecot_config, "-h", "default_internal_user").strip()
        for runner in dict.fromkeys(runners(text, internal_user)):
            yield from check_access(settings, config_path, runner)
    except FileNotFoundError:
        yield Finding("warn", "no Dovecot here")
    except subprocess.TimeoutExpired:
        yield Finding("FAIL", f"doveconf gives no answer within {TIMEOUT_S} s")
    except subprocess.CalledProcessError as error:
        yield Finding("FAIL", (error.stderr.strip().splitlines() or ["doveconf: no message"])[-1])


def _check_text(text: str, recorder: Recorder) -> Iterator[Finding]:
    executables = re.findall(r"^\s*(?:mail_)?executable = (.*)$", text, re.MULTILINE)
    wrappers = [e for e in executables if "popbsmtp-wrap" in e or source_path() in e]
    places = {place.path: place.service for place in recorder.postlogin}
    ours = bool(wrappers) or any(e.split(" ")[-1] in places for e in executables)
    if not ours:
        also = ", nor does it ask a socket of the recorder" if places else ""
        yield Finding("FAIL", f"Dovecot does not start popbsmtp-wrap{also}", _ADVICE)
    yield from dict.fromkeys(
        finding for executable in wrappers for finding in _check_wrapper(executable)
    )
    # 1.x names the wrapper in the protocol itself.
    if wrappers and "script-login" not in " ".join(wrappers):
        return
    programs = {name: setting(body, "executable").split(" ") for name, body in services(text)}
    for service in dict.fromkeys(["imap", "pop3", *places.values()]):
        words = programs.get(service, [])
        if len(words) > 1:
            yield _check_argument(service, words, places)
        elif ours and re.search(rf"^\s*protocols = .*\b{service}\b", text, re.MULTILINE):
            yield Finding("warn", f"service {service} has no post-login script or socket", _ADVICE)


def _check_argument(service: str, words: list[str], places: dict[str, str]) -> Finding:
    """Return the finding on what a mail program asks before it opens the mailbox."""
    path = words[-1]
    if "" in words:
        return _two_blanks(" ".join(words))
    if not path.startswith("/"):
        return Finding("ok", f"service {service} runs {path}")
    asks = f"service {service} asks {path}"
    if places.get(path) == service:
        return Finding("ok", asks)
    if path in places:
        return Finding("warn", f"{asks}, whose logins are listed as {places[path]}", _ADVICE)
    if not os.path.exists(path):
        return Finding("FAIL", f"{asks}, which does not exist: no login works", _ADVICE)
    return Finding("warn", f"{asks}, which recorder.postlogin does not name", _ADVICE)


def _two_blanks(executable: str) -> Finding:
    return Finding("FAIL", f"two blanks in executable = {executable!r}: no login works", _ADVICE)


def _check_wrapper(executable: str) -> Iterator[Finding]:
    words = executable.split(" ")
    wrapper = next((w for w in words if "popbsmtp-wrap" in w or w == source_path()), "")
    if "" in words:
        yield _two_blanks(executable)
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
