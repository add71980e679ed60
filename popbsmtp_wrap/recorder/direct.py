"""Record one login in a process of its own, beside the popbsmtp-wrap that started it.

Standard input is a socket to the wrapper, see wire.py; every other descriptor is /dev/null. The
wrapper stops listening when its time is up; this process goes on, so that a database that is slow
today still gets the login. What the database does not take goes into the spool; where there is none
it is tried again for a while. The kernel ends this process after LONGEST_RECORDING_S
(chain/beside.py).
"""

import contextlib
import os
import syslog
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from socket import AF_UNIX, SOCK_DGRAM, socket
from typing import NamedTuple

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import PopbsmtpError, SpoolError, StoreUnavailableError
from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.networks import ignored_networks, why_ignored
from popbsmtp_wrap.spool.stamp import Stamp
from popbsmtp_wrap.spool.writing import put
from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_timed_request

# Attempts that nobody waits for any more start within this time, and each connects and asks within
# twice that: together less than LONGEST_RECORDING_S, so that the last failure is still reported.
PATIENCE_S = 25.0
_LONGEST_ANSWER_S = 10.0
_FIRST_PAUSE_S = 0.5
# A first attempt that hangs beyond all time-outs (a resolver, a dead NFS server) is not waited for
# until LONGEST_RECORDING_S: Python's start and the disk need their time as well.
_HUNG_S = 50.0
# How many processes of one user go on trying at once, at about 30 MB each: a database that hangs
# must not take the memory of a busy host.
MOST_TRYING = 20


class Arrival(NamedTuple):
    """When the login was: on the monotonic clock, and as the spool keeps it."""

    started: float
    stamp: Stamp


def main(config_path: str) -> None:
    """Record the login that the wrapper sends, and answer it."""
    started, stamp = time.monotonic(), Stamp.now()
    wrapper = socket(fileno=0)
    try:
        login = receive(wrapper)
        settings = config.load(config_path)
        answer(wrapper, "WAIT", f"{settings.wrapper.wait:g}")
        if why_ignored(login.address, ignored_networks(settings.ignore)):
            answer(wrapper, "OK")
            return
    except (PopbsmtpError, ValueError, OSError) as error:
        give_up(wrapper, str(error))
    except BaseException as error:
        give_up(wrapper, f"{type(error).__name__}: {error}")
        raise
    else:
        commit(wrapper, login, settings, Arrival(started, stamp))


def receive(wrapper: socket) -> Login:
    """Return the login of the wrapper's request. Raise ValueError when it is none."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= LONGEST_LINE:
        data = wrapper.recv(LONGEST_LINE)
        if not data:
            break
        line += data
    return make_login(*parse_timed_request(line)[:4])


def commit(wrapper: socket, login: Login, settings: config.Settings, arrival: Arrival) -> None:
    """Commit *login* or spool it; answer at the first success or failure, try on while it may help.

    Each attempt waits twice as long for the database as the one before. What is recorded late is
    recorded as old as it is.
    """
    database, pause_s = settings.database, _FIRST_PAUSE_S
    place = None
    keep = partial(keep_in_spool, wrapper, login, arrival.stamp, settings.recorder)
    end_when_hung(keep)
    while True:
        error = attempt(login, database, arrival.started)
        if error is None:
            answer(wrapper, "OK")
            return
        trouble = keep(str(error))
        if trouble is None:
            return
        may_help = isinstance(error, StoreUnavailableError)
        place = (place or place_among_the_trying()) if may_help else None
        if not place or time.monotonic() - arrival.started + pause_s > PATIENCE_S:
            give_up(wrapper, f"{error}; {trouble}")
            return
        answer(wrapper, "NO", f"{error}; still trying in the background; {trouble}")
        time.sleep(pause_s)
        pause_s *= 2
        longer_s = max(
            database.connect_timeout, min(2 * database.connect_timeout, _LONGEST_ANSWER_S)
        )
        database = replace(database, connect_timeout=longer_s)


def attempt(login: Login, database: config.Database, started: float) -> Exception | None:
    """Return None when *login*, seen at *started*, is committed, else why it is not."""
    try:
        from popbsmtp_wrap.store.engine import open_store
        from popbsmtp_wrap.store.logins import record

        record(open_store(database), login, database.connect_timeout, since=started)
    except PopbsmtpError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, the login can wait on disk
        return RuntimeError(f"{type(error).__name__}: {error}")
    return None


def keep_in_spool(
    wrapper: socket, login: Login, stamp: Stamp, recorder: config.Recorder, reason: str
) -> str | None:
    """Return None when *login* is safe in the spool and the wrapper knows, else why it is not."""
    try:
        put(recorder.spool, recorder.spool_size, login, stamp)
    except SpoolError as error:
        return str(error)
    answer(wrapper, "OK")
    report(f"login from {login.address} waits in {recorder.spool}: {reason}")
    return None


def end_when_hung(keep: Callable[[str], str | None]) -> None:
    """Have the login spooled and this process ended, should it still be here after _HUNG_S."""

    def end() -> None:
        if keep(f"the database hangs for {_HUNG_S:g} s") is None:
            os._exit(0)

    watch = threading.Timer(_HUNG_S, end)
    watch.daemon = True
    # Where there is no room for a thread, the login goes on without it.
    with contextlib.suppress(RuntimeError):
        watch.start()


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


def give_up(wrapper: socket, reason: str) -> None:
    """Tell the wrapper and the mail log why the login is lost."""
    answer(wrapper, "NO", reason)
    report(f"login not recorded: {reason}")


def report(text: str) -> None:
    """Write to the mail log: the wrapper may be gone, and with it its stderr."""
    syslog.openlog("popbsmtp-wrap", syslog.LOG_PID, syslog.LOG_MAIL)
    syslog.syslog(syslog.LOG_WARNING, ascii(text)[1:-1])
