"""Record one login in a process of its own, beside the popbsmtp-wrap that started it.

Standard input is a socket to the wrapper, see wire.py; every other descriptor is /dev/null. The
wrapper stops listening when its time is up; this process goes on, so that a database that is slow
today still gets the login, and ends after LONGEST_RECORDING_S (chain/beside.py) at the latest.
"""

import contextlib
import os
import syslog
import time
from dataclasses import replace
from socket import AF_UNIX, SOCK_DGRAM, socket

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import PopbsmtpError, StoreUnavailableError
from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.networks import ignored_networks, why_ignored
from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_request

# Attempts that nobody waits for any more start within this time, and each connects and asks within
# twice that: together less than LONGEST_RECORDING_S, so that the last failure is still reported.
PATIENCE_S = 25.0
_LONGEST_ANSWER_S = 10.0
_FIRST_PAUSE_S = 0.5
# How many processes of one user go on trying at once, at about 30 MB each: a database that hangs
# must not take the memory of a busy host.
MOST_TRYING = 20


def main(config_path: str) -> None:
    """Record the login that the wrapper sends, and answer it."""
    started = time.monotonic()
    wrapper = socket(fileno=0)
    try:
        login = receive(wrapper)
        settings = config.load(config_path)
        answer(wrapper, "WAIT", f"{settings.wrapper.wait:g}")
        if why_ignored(login.address, ignored_networks(settings.ignore)):
            answer(wrapper, "OK")
        else:
            commit(wrapper, login, settings, started)
    except (PopbsmtpError, ValueError, OSError) as error:
        answer(wrapper, "NO", str(error))
        report(str(error))
    except BaseException as error:
        text = f"{type(error).__name__}: {error}"
        answer(wrapper, "NO", text)
        report(text)
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
    place = None
    while True:
        try:
            record(open_store(database), login, database.connect_timeout, since=started)
        except StoreUnavailableError as error:
            place = place or place_among_the_trying()
            if not place or time.monotonic() - started + pause_s > PATIENCE_S:
                raise
            answer(wrapper, "NO", f"{error}; still trying in the background")
        else:
            answer(wrapper, "OK")
            return
        time.sleep(pause_s)
        pause_s *= 2
        longer_s = max(
            database.connect_timeout, min(2 * database.connect_timeout, _LONGEST_ANSWER_S)
        )
        database = replace(database, connect_timeout=longer_s)


def place_among_the_trying() -> socket | None:
    """Return one of MOST_TRYING places, None when all are taken.

    A place is the name of an abstract socket, which the kernel frees with the process (unix(7)).
    """
    for number in range(MOST_TRYING):
        place = socket(AF_UNIX, SOCK_DGRAM)
        try:
            place.bind(f"\0popbsmtp-recording-{os.geteuid()}-{number}")
        except OSError:
            place.close()
        else:
            return place
    return None


def answer(wrapper: socket, word: str, text: str = "") -> None:
    """Tell the wrapper, if it still listens."""
    with contextlib.suppress(OSError):
        wrapper.sendall(format_answer(word, text))


def report(text: str) -> None:
    """Write to the mail log: the wrapper may be gone, and with it its stderr."""
    syslog.openlog("popbsmtp-wrap", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_WARNING, f"login not recorded: {ascii(text)[1:-1]}")
