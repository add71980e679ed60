"""Record one login in a process of its own, beside the popbsmtp-wrap that started it.

Standard input is a socket to the wrapper, see wire.py; one more descriptor may hold this process's
place among those that try the database (wrapper/start_recorder.py), every other is /dev/null.

A login that is not committed after a part of the wrapper's time goes into the spool, and the
wrapper is told that it is safe; this process goes on for a while, so that a database that is slow
today still gets the login. Where there is no spool the database is tried again for longer. A
process without a place goes to the spool at once. Those who had the places write what was spooled
meanwhile. The kernel ends this process after LONGEST_RECORDING_S (wrapper/start_recorder.py).
"""

import contextlib
import os
import syslog
import threading
import time
from dataclasses import replace
from socket import socket
from typing import Final, NamedTuple

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import PopbsmtpError, RowRefusedError, SpoolError, StoreUnavailableError
from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.networks import ignored_networks, why_ignored
from popbsmtp_wrap.spool.append import put
from popbsmtp_wrap.spool.directory import SEGMENT, names
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_timed_request, read_clocks
from popbsmtp_wrap.wrapper.start_recorder import MOST_TRYING, take_place

# Attempts that nobody waits for any more start within this time, and each connects and asks within
# twice that: together less than LONGEST_RECORDING_S, so that the last failure is still reported.
PATIENCE_S: Final = 25.0
_LONGEST_ANSWER_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.5
# The database's share of the time that the wrapper waits; the spool needs the rest on a slow disk.
_DATABASE_SHARE: Final = 0.6
# What takes the place of that time for a wrapper that does not wait.
_UNHURRIED_S: Final = 2.0
# How long a login that is safe in the spool is still tried: a database that is only slow has it by
# then, and for one that hangs this process is not worth its memory.
_LATE_S: Final = 6.0
# A first attempt that hangs beyond all time-outs (a resolver, a dead NFS server) is not waited for
# until LONGEST_RECORDING_S where there was no spool: there may be one by now.
_HUNG_S: Final = 50.0
_PLACE_S: Final = 0.1


class Arrival(NamedTuple):
    """When the login was: on the monotonic clock, and as the spool keeps it."""

    started: float
    stamp: Stamp


def main(config_path: str, wait: str = "", place: str = "-1", task: str = "try") -> None:
    """Record the login that the wrapper sends, and answer it.

    *wait* is how many seconds the wrapper waits, "" for what the configuration says; *place* the
    descriptor of the place that this process has; *task* is "try", or "spare" for a process that
    has to leave the database alone until it has a place to try it from.
    """
    wrapper = socket(fileno=0)
    try:
        login, arrival = receive(wrapper)
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
        wait_s = float(wait) if wait else settings.wrapper.wait
        recording = Recording(wrapper, login, settings, arrival, wait_s or _UNHURRIED_S)
        if task == "try":
            record(recording, Place(int(place)))
        else:
            record_without_place(recording)


def receive(wrapper: socket) -> tuple[Login, Arrival]:
    """Return the login of the wrapper's request, and when it was. Raise ValueError for others."""
    line = b""
    while not line.endswith(b"\n") and len(line) <= LONGEST_LINE:
        data = wrapper.recv(LONGEST_LINE)
        if not data:
            break
        line += data
    address, user, service, age_s, moment = parse_timed_request(line)
    now = time.monotonic(), Stamp.now()
    _, boot_ns, wall_ns = read_clocks()
    # The wrapper's clocks are ours: it has forked us.
    _, then_boot_ns, then_wall_ns = moment or (b"", boot_ns, wall_ns)
    stamp = now[1]._replace(boot_ns=then_boot_ns, wall_ns=then_wall_ns)
    arrival = Arrival(now[0] - (boot_ns - then_boot_ns) / 1e9, stamp)
    return make_login(address, user, service, age_s), arrival


class Place:
    """The right to try the database; *descriptor* holds it, -1 where no other process knows."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls) -> "Place | None":
        """Return a place, None when all are taken."""
        with contextlib.suppress(OSError):
            if found := take_place(range(MOST_TRYING)):
                return cls(found.detach())
        return None

    def leave(self) -> None:
        """Let another process have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


class Recording:
    """One login until it is safe. Two threads share it: one may hang in the database."""

    def __init__(
        self,
        wrapper: socket,
        login: Login,
        settings: config.Settings,
        arrival: Arrival,
        wait_s: float,
    ) -> None:
        self.wrapper = wrapper
        self.login = login
        self.settings = settings
        self.arrival = arrival
        self.spool_at = arrival.started + wait_s * _DATABASE_SHARE
        self._file = ""
        self._lock = threading.Lock()

    @property
    def age_s(self) -> float:
        """How long ago the login was."""
        return time.monotonic() - self.arrival.started

    def keep(self) -> str | None:
        """Return None when the login is safe in the spool and the wrapper knows, else why not."""
        recorder = self.settings.recorder
        with self._lock:
            if self._file:
                return None
            try:
                self._file = put(
                    recorder.spool, recorder.spool_size, self.login, self.arrival.stamp
                )
            except SpoolError as error:
                return str(error)
        answer(self.wrapper, "OK")
        return None

    def committed(self) -> None:
        """Tell the wrapper; the spool need not keep the login any longer."""
        answer(self.wrapper, "OK")
        with self._lock, contextlib.suppress(OSError):
            if self._file:
                os.unlink(self._file)

    def report_kept(self, reason: str) -> None:
        """Write to the mail log where the login is."""
        report(f"login from {self.login.address} waits in {self.settings.recorder.spool}: {reason}")


def record(recording: Recording, place: Place) -> None:
    """Commit the login or spool it; answer at the first success or failure, then try on.

    Each attempt waits twice as long for the database as the one before. What is recorded late is
    recorded as old as it is.
    """
    settings, database, pause_s = recording.settings, recording.settings.database, _FIRST_PAUSE_S
    watch(recording)
    while True:
        error = attempt(recording.login, database, recording.arrival.started)
        if error is None:
            recording.committed()
            write_what_others_spooled(settings, recording.arrival, place)
            return
        if isinstance(error, RowRefusedError):
            # The spool would only carry it to the same answer.
            give_up(recording.wrapper, str(error))
            return
        trouble = recording.keep()
        if trouble is None:
            recording.report_kept(str(error))
            return
        may_help = isinstance(error, StoreUnavailableError)
        if not may_help or recording.age_s + pause_s > PATIENCE_S:
            give_up(recording.wrapper, f"{error}; {trouble}")
            return
        answer(recording.wrapper, "NO", f"{error}; still trying in the background; {trouble}")
        time.sleep(pause_s)
        pause_s *= 2
        longer_s = max(
            database.connect_timeout, min(2 * database.connect_timeout, _LONGEST_ANSWER_S)
        )
        database = replace(database, connect_timeout=longer_s)


def record_without_place(recording: Recording) -> None:
    """Spool the login; then, or where there is no spool, see whether there is a place by now.

    Whoever spools and finds no place after that knows that those who have the places will look
    into the spool when they leave them.
    """
    trouble = recording.keep()
    place = Place.take()
    while place is None and trouble is not None and recording.age_s < PATIENCE_S:
        time.sleep(_PLACE_S)
        place = Place.take()
    if place is not None:
        record(recording, place)
    elif trouble is not None:
        give_up(recording.wrapper, f"{MOST_TRYING} others wait for the database; {trouble}")
    else:
        recording.report_kept(f"{MOST_TRYING} others wait for the database")


def attempt(login: Login, database: config.Database, started: float) -> Exception | None:
    """Return None when *login*, seen at *started*, is committed, else why it is not."""
    try:
        from popbsmtp_wrap.store.engine import open_store
        from popbsmtp_wrap.store.upsert import record as commit

        commit(open_store(database), login, database.connect_timeout, since=started)
    except PopbsmtpError as error:
        return error
    except Exception as error:  # noqa: BLE001 - whatever it is, the login can wait on disk
        return RuntimeError(f"{type(error).__name__}: {error}")
    return None


def write_what_others_spooled(settings: config.Settings, arrival: Arrival, place: Place) -> None:
    """Empty the spool of logins that came after ours and found no place."""
    from popbsmtp_wrap.recorder.flush import flush
    from popbsmtp_wrap.store.engine import open_store

    deadline = arrival.started + PATIENCE_S
    held: Place | None = place
    while held is not None and time.monotonic() < deadline:
        if not has_newer(settings.recorder.spool, arrival):
            held.leave()
            # Again, as somebody may have found all places taken just before.
            if not has_newer(settings.recorder.spool, arrival):
                return
            held = Place.take()
            continue
        try:
            if not flush(open_store(settings.database), settings).committed:
                # Another process has the spool.
                time.sleep(_PLACE_S)
        except PopbsmtpError:
            return


def has_newer(spool: str, arrival: Arrival) -> bool:
    """Tell whether a login was spooled after *arrival*."""
    try:
        return any(int(name[:20]) > arrival.stamp.wall_ns for name in names(spool, SEGMENT))
    except OSError:
        return False


def watch(recording: Recording) -> None:
    """Have the login spooled when the database takes too long, and this process ended at last."""

    def keep_and_end() -> None:
        time.sleep(max(0.0, recording.spool_at - time.monotonic()))
        if recording.keep() is None:
            time.sleep(_LATE_S)
        else:
            time.sleep(max(0.0, _HUNG_S - recording.age_s))
            if recording.keep() is not None:
                return
        recording.report_kept(f"the database hangs for {recording.age_s:.0f} s")
        os._exit(0)

    # Where there is no room for a thread, the login goes on without it.
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=keep_and_end, daemon=True).start()


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
