"""A recorder that is absent, hangs or talks nonsense costs no login."""

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from popbsmtp_wrap.wire import parse_timed_request, read_clocks
from tests.harness.directories import public_directory
from tests.harness.faults import HangingUnixSocket, RefusingUnixSocket
from tests.harness.process import wait_until
from tests.servers.wrap_fixtures import (
    GREETING,
    LOGIN,
    RECORDED,
    SLACK_S,
    Place,
    recording_processes,
    session,
)

# Half of it is the recorder's; the other half has to do for a process on a busy machine.
WAIT_S = 20.0
# Nobody's.
STRANGER = 54322


@pytest.fixture
def path():
    return public_directory()


class Recorder:
    """A recorder that does what *behave* does with each connection."""

    def __init__(self, path, behave):
        self.requests = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._behave = behave
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                with contextlib.suppress(OSError), connection:
                    self.requests.append(connection.recv(4096))
                    self._behave(connection)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def wait_for_ever(connection):
    while True:
        connection.sendall(b"WAIT\t1\n" * 100)


def flood(connection):
    while True:
        connection.sendall(b"x" * 4096)


def trickle(connection):
    for _ in range(200):
        connection.sendall(b"O")
        time.sleep(0.1)


def saying(text):
    return lambda connection: connection.sendall(text)


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "no answer but 'HTTP/1.1 400 Bad Request"),
        (saying(b"\0\xff\x1b[2J\n"), "no answer but"),
        (saying(b"OK"), "it ended without an answer"),
        (saying(b""), "it ended without an answer"),
        (saying(b"NO\tdatabase down\n"), "database down"),
        (saying(b"WAIT\tsoon\nNO\tlater\n"), "later"),
        (wait_for_ever, "no answer but 'WAIT'"),
        (flood, "it ended without an answer"),
        (trickle, "no answer in time"),
    ],
)
def test_login_is_recorded_directly_when_the_recorder_talks_nonsense(place, path, behave, reason):
    recorder = Recorder(path / "login.sock", behave)
    command = place.command("--socket", str(path / "login.sock"), *GREETING)
    (line,) = session(command, LOGIN).lines
    recorder.close()
    told = f"popbsmtp-wrap: 198.51.100.7 recorded without the recorder: recorder at {path}"
    assert line.startswith(told)
    assert reason in line
    assert line.isprintable()
    assert place.rows() == RECORDED


@pytest.mark.parametrize("answer", [b"OK\n", b"WAIT\t9\nOK\n"])
def test_recorder_that_answers_gets_the_login_alone(place, path, answer):
    recorder, before = Recorder(path / "login.sock", saying(answer)), read_clocks()
    command = place.command("--socket", str(path / "login.sock"), *GREETING)
    assert session(command, LOGIN).lines == []
    recorder.close()
    (request,) = recorder.requests
    *login, (clock, boot_ns, wall_ns) = parse_timed_request(request)
    assert login == ["198.51.100.7", b"alice", b"", 0]
    assert int(clock) == os.stat("/proc/self/ns/time").st_ino
    assert before[1] <= boot_ns <= read_clocks()[1]
    assert before[2] <= wall_ns <= read_clocks()[2]
    assert place.rows() == []
    assert recording_processes(place.config) == []


def test_absent_refusing_hanging_and_closed_recorders_cost_no_login(place, path):
    name = str(path / "login.sock")
    told = "popbsmtp-wrap: 198.51.100.7 recorded without the recorder: "

    def ask(**options):
        place.clear()
        ended = session(
            place.command("--socket", name, *GREETING, wait=f"{WAIT_S}"), LOGIN, **options
        )
        assert place.rows() == RECORDED
        assert ended.seconds < WAIT_S + SLACK_S
        (line,) = ended.lines
        return line

    assert ask() == f"{told}no recorder at {name}"
    with RefusingUnixSocket(Path(name)):
        assert ask() == f"{told}recorder at {name}: [Errno 111] Connection refused"
    with HangingUnixSocket(Path(name)):
        assert ask() == f"{told}recorder at {name}: no answer in time"
    name = str(path / ("x" * 200))
    assert ask() == f"{told}recorder at {name}: AF_UNIX path too long"


class CrowdedRecorder:
    """A recorder whose queue is full until it begins to accept."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(0)
        self._before = socket.socket(socket.AF_UNIX)
        self._before.connect(str(path))

    def accept_after(self, seconds):
        def accept():
            time.sleep(seconds)
            self._listener.accept()[0].close()
            with self._listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"OK\n")

        threading.Thread(target=accept, daemon=True).start()

    def close(self):
        self._before.close()
        self._listener.close()


def test_login_waits_for_room_in_the_queue_of_a_busy_recorder(place, path):
    with contextlib.closing(CrowdedRecorder(path / "login.sock")) as recorder:
        recorder.accept_after(1)
        command = place.command("--socket", str(path / "login.sock"), *GREETING, wait="20")
        assert session(command, LOGIN).lines == []
    assert place.rows() == []


@pytest.mark.parametrize("wait", ["6", "0"])
def test_queue_that_stays_full_costs_no_login(place, path, wait):
    with contextlib.closing(CrowdedRecorder(path / "login.sock")):
        command = place.command("--socket", str(path / "login.sock"), *GREETING, wait=wait)
        ended = session(command, LOGIN)
    assert ended.seconds < float(wait) + SLACK_S
    (line,) = ended.lines
    assert "recorder at " in line
    assert "no answer in time" in line
    wait_until(lambda: place.rows() == RECORDED, 30, "the row")


def test_socket_that_may_not_be_reached_costs_no_login():
    place = Place(public_directory(), owner=STRANGER)
    closed = place.base / "closed"
    closed.mkdir(mode=0o700)
    command = place.command("--socket", f"{closed}/login.sock", *GREETING)
    (line,) = session(command, LOGIN, user=STRANGER, group=STRANGER).lines
    assert line.endswith(f"recorder at {closed}/login.sock: [Errno 13] Permission denied")
    assert place.rows() == RECORDED
