"""Dovecot's configuration as doveconf(1) prints it."""

import os
import re
import subprocess
from collections.abc import Iterator

from popbsmtp_wrap.programs import search_path

TIMEOUT_S = 10
_SERVICE = re.compile(r"^service (\S+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)


def doveconf(config_path: str | None, *arguments: str) -> str:
    """Return what Dovecot's configuration printer says (man 1 doveconf).

    Raise FileNotFoundError where it is not installed, another OSError or a SubprocessError when it
    fails or takes longer than TIMEOUT_S.
    """
    return subprocess.run(
        ["doveconf", *(["-c", config_path] if config_path else []), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
        env={**os.environ, "PATH": search_path()},
    ).stdout


def services(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and body of each service of *text* (doveconf -n)."""
    yield from _SERVICE.findall(text)


def setting(body: str, name: str) -> str:
    """Return the value of a setting, "" where it has its default."""
    match = re.search(rf"^\s+{name} = (.*)$", body, re.MULTILINE)
    return match[1].strip() if match else ""
