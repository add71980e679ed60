"""Record one login in a process of its own, beside the popbsmtp-wrap that started it.

Standard input is a socket to the wrapper, see wire.py; every other descriptor is /dev/null. The
wrapper stops listening when its time is up; this process goes on, so that a database that is slow
today still gets the login, and ends after LONGEST_RECORDING_S (chain/wrap.py) at the latest.
"""

import contextlib
import syslog
import time
from dataclasses import replace
from socket import socket

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import PopbsmtpError, StoreUnavailableError
from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.networks import why_ignored
from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_request

# Attempts that nobody waits for any more start within this time.
PATIENCE_S = 30.0
_FIRST_PAUSE_S = 0.5


def main(config_path: str) -> None:
    """Record the login that the wrapper sends, and answer it."""
    started = time.monotonic()
    wrapper = socket(fileno=0)
    try:
        login = receive(wrapper)
        settings = config.load(config_path)
        answer(wrapper, "WAIT", f"{settings.wrapper.wait:g}")
        if why_ignored(login.address, settings.ignore):
            answer(wrapper, "OK")
        else:
            commit(wrapper, login, settings, started)
    except (PopbsmtpError, ValueError, OSError) as error:
        answer(wrapper, "NO", str(error))
        report(str(error))
    except BaseException as error:
        answer(wrapper, "NO", f"{type(error).__name__}: {error}")
        raise


def receive(wrapper: socket) -> Login:
    """Return the login of the wrapper's request. Raise ValueError when it is none."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= LONGEST_LINE:
        data = wrapper.recv(LONGEST_LINE)
        if not data:
            break
        line += data
    return make_login(*parse_request(line))


def commit(wrapper: socket, login: Login, settings: config.Settings, started: float) -> None:
    """Commit *login*, answer at the first success or failure, and try on while it may help.

    Each attempt waits twice as long for the database as the one before. What is recorded late is
    recorded as old as it is.
    """
    from popbsmtp_wrap.store.engine import open_store
    from popbsmtp_wrap.store.logins import record

    database, pause_s = settings.database, _FIRST_PAUSE_S
    while True:
        age_s = time.monotonic() - started
        try:
            store = open_store(database)
            record(store, replace(login, age_s=int(age_s)), database.connect_timeout)
        except StoreUnavailableError as error:
            answer(wrapper, "NO", str(error))
            if time.monotonic() - started + pause_s > PATIENCE_S:
                raise
        else:
            answer(wrapper, "OK")
            return
        time.sleep(pause_s)
        pause_s *= 2
        longer_s = min(2 * database.connect_timeout, PATIENCE_S / 2)
        database = replace(database, connect_timeout=longer_s)


def answer(wrapper: socket, word: str, text: str = "") -> None:
    """Tell the wrapper, if it still listens."""
    with contextlib.suppress(OSError):
        wrapper.sendall(format_answer(word, text))


def report(text: str) -> None:
    """Write to the mail log: the wrapper may be gone, and with it its stderr."""
    syslog.openlog("popbsmtp-wrap", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_WARNING, f"login not recorded: {ascii(text)[1:-1]}")
