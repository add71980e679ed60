"""Runs `popbsmtp` with one function that fails on command.

SIGUSR1 makes the next answer to a login raise, as a bug in the way of an answer would.
"""

import signal
import sys
from importlib import import_module
from typing import Any

# Where the answer to a login is sent: the first of these that exists.
_ANSWERS = (
    ("popbsmtp_wrap.server.connection", "Connection", "send"),
    ("popbsmtp_wrap.server.connection", "Connection", "send"),
)

_armed = False


def _arm(*_: object) -> None:
    global _armed  # noqa: PLW0603 - a signal handler has no other way
    _armed = True


def _break_answers() -> None:
    for module, name, method in _ANSWERS:
        try:
            owner = getattr(import_module(module), name)
            original = getattr(owner, method)
        except (ImportError, AttributeError):
            continue

        def send(self: Any, answer: bytes, original: Any = original) -> Any:
            global _armed  # noqa: PLW0603
            if _armed and answer == b"OK\n":
                _armed = False
                raise RuntimeError("chaos: an answer that fails")
            return original(self, answer)

        setattr(owner, method, send)
        return
    raise SystemExit("tests/chaos/recorder_driver.py: no answer to break; see _ANSWERS")


if __name__ == "__main__":
    from popbsmtp_wrap.cli.main import main

    _break_answers()
    signal.signal(signal.SIGUSR1, _arm)
    sys.argv[0] = "popbsmtp"
    main()
