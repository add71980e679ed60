"""The programs that are measured, and the client addresses that they record."""

import itertools
import os
import sys
from ipaddress import IPv4Address
from pathlib import Path

BIN = Path(sys.executable).parent
WRAPPER = str(BIN / "popbsmtp-wrap")
TOOLKIT = str(BIN / "popbsmtp")
CLASSIC = Path(__file__).parent / "classic"
PROGRAM = "/bin/true"

# 198.18.0.0/15 is set apart for benchmarks (RFC 2544).
_FIRST_ADDRESS = int(IPv4Address("198.18.0.1"))
_numbers = itertools.count(_FIRST_ADDRESS)


def new_address() -> str:
    """Return a client address that nobody was given before."""
    return str(IPv4Address(next(_numbers)))


def login_environment(address: str | None = None, **more: str) -> dict[str, str]:
    """Return what script-login gives a program for a login from *address*, and a PATH."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "IP": address or new_address(),
        "LOCAL_IP": "192.0.2.1",
        "USER": "alice",
        "HOME": "/nonexistent",
        "UID": "5000",
        "GID": "5000",
        **more,
    }


def launcher_interpreter() -> str:
    """Return the interpreter in the first line of the installed popbsmtp-wrap.

    Raise RuntimeError when that is no launcher: pip's script would be measured instead.
    """
    with open(WRAPPER, encoding="utf-8") as file:
        python, _, options = file.readline().removeprefix("#!").strip().partition(" ")
    if options != "-IS" or not os.access(python, os.X_OK):
        raise RuntimeError(f"{WRAPPER} is no launcher; run: make -W pyproject.toml bench")
    return python
