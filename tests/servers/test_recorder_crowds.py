"""Thousands of peers, floods, and a recorder that hangs, dies or has no place left."""

import contextlib
import re
import socket
import subprocess
import sys
import threading
import time

import pytest

from popbsmtp_wrap.wire import format_request, read_clocks
from tests.harness.process import wait_until
from tests.servers.recorder_load import next_address
from tests.servers.recorder_peers import (
    LONGEST_WAITS,
    OPEN_TO_ALL,
    PatientRecorder,
    connect_as,
    cpu_s,
    crowd,
    descriptor_count,
    held_database,
    is_ended,
    most_memory_kb,
    recorded,
)
from tests.servers.recorder_place import (
    PATIENCE_S,
    SERVICES,
    Recorder,
    dovecot_request,
    read_all,
)
from tests.servers.wrap_fixtures import GREETING, SLACK_S, launcher, session

CAPACITY = 4096
# "RSS stays under 80 MB".
MOST_MEMORY_KB = 80_000
# Those of the test and of `popbsmtp status` come on top.
CROWD = 3000

# As many logins as fast as possible, 50 at a time: path, first number, count.
_FLOOD = """
import socket, sys
path, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
answered, waiting = 0, []
def answers():
    global answered
    for peer in waiting:
        answered += peer.recv(100) == b"OK\\n"
        peer.close()
    waiting.clear()
for number in range(first, first + count):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    address = f"11.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    peer.send(f"popbsmtp/1\\t{address}\\talice\\timap\\n".encode())
    waiting.append(peer)
    if len(waiting) == 50:
        answers()
answers()
print(answered)
"""


@pytest.fixture(scope="module")
def recorder():
    with PatientRecorder(recorder=f'{OPEN_TO_ALL}\nusers = ["daemon", "mail"]') as running:
        assert running.dovecot_login(next_address())
        yield running


@pytest.fixture
def quiet(recorder):
    """The recorder without connections but that which asks; the same is left afterwards."""
    wait_until(lambda: recorder.status()["connections"] == 1, PATIENCE_S, "the test before")
    before = descriptor_count(recorder)
    yield recorder
    wait_until(lambda: recorder.status()["connections"] == 1, PATIENCE_S, "the ends")
    assert descriptor_count(recorder) <= before
    assert most_memory_kb(recorder) < MOST_MEMORY_KB


def dropped(recorder):
    return recorder.status()["dropped"]


def arrived(recorder, count):
    """Wait until a crowd is inside."""
    wait_until(lambda: recorder.status()["connections"] > count, PATIENCE_S, "the crowd")


def dovecot_login_as(user, recorder, service, address):
    with connect_as(user, recorder.postlogin[service]) as peer:
        peer.sendall(dovecot_request(address))
        return read_all(peer)


def login_as(user, recorder, address):
    with connect_as(user, recorder.socket) as peer:
        peer.sendall(format_request(address, b"alice", b"imap"))
        return read_all(peer)


def assert_logins_go_on(recorder, count):
    """Every login of another user, on all sockets, is answered and recorded."""
    addresses = []
    for _ in range(count):
        addresses += [next_address() for _ in range(3)]
        assert login_as("mail", recorder, addresses[-3]) == b"OK\n"
        for service, address in zip(SERVICES, addresses[-2:], strict=True):
            reply = dovecot_login_as("mail", recorder, service, address)
            assert reply == b"alice\thome=/home/alice\n"
    wait_until(lambda: recorded(recorder) >= set(addresses), PATIENCE_S, "the rows")


def test_thousands_of_silent_peers_hold_nobody_up_and_are_closed(quiet):
    before = dropped(quiet)
    with (
        crowd("daemon", quiet.socket, CROWD // 2) as first,
        crowd("daemon", quiet.postlogin["imap"], CROWD // 2) as second,
    ):
        arrived(quiet, CROWD)
        assert_logins_go_on(quiet, 20)
        assert dropped(quiet) == before
        for peer in (*first, *second):
            assert read_all(peer) == b""
    assert dropped(quiet)["silent"] - before.get("silent", 0) == CROWD


def test_beyond_capacity_the_user_with_most_silent_peers_loses_the_oldest(quiet):
    few = 1000
    with (
        crowd("mail", quiet.postlogin["imap"], few) as others,
        crowd("daemon", quiet.postlogin["imap"], CAPACITY - few) as most,
    ):
        arrived(quiet, CAPACITY - 1)
        assert_logins_go_on(quiet, 5)
        gone = sum(map(is_ended, most))
        # One place for those that came afterwards, one after another, is enough.
        assert 1 <= gone < 5
        assert all(map(is_ended, most[:gone]))
        assert not any(map(is_ended, others))
        with crowd("daemon", quiet.postlogin["pop3"], 500) as more:
            wait_until(lambda: sum(map(is_ended, most)) >= 500, PATIENCE_S, "the places")
            gone = sum(map(is_ended, most))
            assert all(map(is_ended, most[:gone]))
            assert not any(map(is_ended, [*others, *more]))


def test_thousands_of_long_and_incomplete_requests_take_little_memory(quiet):
    start = dovecot_request("198.51.100.66", more="x" * 30_000).removesuffix(b"\n")
    with crowd("daemon", quiet.postlogin["imap"], 4000) as peers:
        # Inside before they send: it is not only new peers that make others go.
        arrived(quiet, 4000)
        for peer in peers:
            peer.settimeout(0.001)
            with contextlib.suppress(ConnectionError, TimeoutError):
                peer.sendall(start)
        assert_logins_go_on(quiet, 5)
        # 16 MB hold about 540 of them.
        assert 3000 < sum(map(is_ended, peers)) < 4000
        assert most_memory_kb(quiet) < MOST_MEMORY_KB
    assert "198.51.100.66" not in recorded(quiet)


def test_a_flood_of_one_user_holds_no_other_up_and_leaves_nothing_behind(quiet):
    before = dropped(quiet)
    floods = [
        subprocess.Popen(
            [sys.executable, "-c", _FLOOD, quiet.socket, str(number * 10_000), "10000"],
            user="daemon",
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    addresses = []
    try:
        while any(flood.poll() is None for flood in floods):
            addresses.append(next_address())
            reply = dovecot_login_as("mail", quiet, "imap", addresses[-1])
            assert reply == b"alice\thome=/home/alice\n"
    finally:
        for flood in floods:
            flood.kill()
    assert [flood.communicate()[0] for flood in floods] == ["10000\n", "10000\n"]
    assert len(addresses) > 10
    wait_until(lambda: quiet.status()["waiting"] == 0, PATIENCE_S, "the commits")
    rows = recorded(quiet)
    assert rows >= set(addresses)
    assert sum(address.startswith("11.") for address in rows) == 20_000
    assert dropped(quiet) == before
    used_s = cpu_s(quiet)
    time.sleep(3)
    # Ten ticks; a thread that spins would take three hundred.
    assert cpu_s(quiet) - used_s <= 0.1


def test_peers_that_wait_for_no_answer_take_little_memory():
    with PatientRecorder(**LONGEST_WAITS) as recorder:
        with held_database(recorder):
            moment, path = read_clocks(), str(recorder.socket)
            for _ in range(12_000):
                with socket.socket(socket.AF_UNIX) as peer:
                    peer.connect(path)
                    peer.send(format_request(next_address(), b"alice", b"", moment=moment))
            wait_until(lambda: recorder.status()["connections"] == 1, PATIENCE_S, "the ends")
            found = recorder.status()
            assert found["waiting"] == 10_000
            assert found["outcomes"]["refused"] == 2000
            word, reason = recorder.login(next_address())
            assert (word, reason) == ("NO", "10000 logins wait already")
            reply = recorder.dovecot_login(next_address())
            assert reply == b"alice\thome=/home/alice\n"
            assert most_memory_kb(recorder) < MOST_MEMORY_KB
        wait_until(lambda: recorder.status()["waiting"] == 0, PATIENCE_S, "the commits")
        assert len(recorded(recorder)) == 10_000
        assert recorder.login(next_address()) == ("OK", "")


class SmallRecorder(Recorder):
    """A recorder with room for few connections, and 128 descriptors beside them."""

    def command(self):
        return ["prlimit", f"--nofile={128 + self.capacity}", *super().command()]

    capacity = 20


def wrapped_session(recorder, address, wait="30"):
    """How a mail session behind popbsmtp-wrap went."""
    options = ["--config", str(recorder.config), "--socket", str(recorder.socket)]
    command = [launcher(), *options, "--wait", wait, *GREETING]
    return session(command, {"IP": address, "USER": "alice"})


class InBackground(threading.Thread):
    """A mail session behind popbsmtp-wrap that goes on; result() waits for its end."""

    def __init__(self, recorder, address, wait="30"):
        super().__init__()
        self._arguments = recorder, address, wait
        self.ended = None
        self.start()

    def run(self):
        self.ended = wrapped_session(*self._arguments)

    def result(self):
        self.join()
        assert self.ended is not None
        return self.ended


def test_sessions_open_while_the_recorder_hangs_and_nothing_is_lost():
    with Recorder() as recorder:
        assert recorder.login(next_address()) == ("OK", "")
        addresses = [next_address() for _ in range(2)]
        recorder.pause()
        try:
            for waiting in [InBackground(recorder, address, wait="20") for address in addresses]:
                ended = waiting.result()
                assert ended.seconds < 20 + SLACK_S
                (line,) = ended.lines
                assert re.search(r"recorded without the recorder: .* no answer in time", line)
            assert recorded(recorder) >= set(addresses)
        finally:
            recorder.resume()
        late = next_address()
        assert recorder.login(late) == ("OK", "")
        assert wrapped_session(recorder, next_address()).lines == []
        assert recorded(recorder) >= {late, *addresses}


def test_a_session_opens_when_the_recorder_dies_before_its_answer():
    with Recorder(**LONGEST_WAITS) as recorder:
        address = next_address()
        with held_database(recorder):
            waiting = InBackground(recorder, address)
            wait_until(lambda: recorder.status()["waiting"] == 1, PATIENCE_S, "the login")
            recorder.kill()
        ended = waiting.result()
        (line,) = ended.lines
        assert re.search("recorded without the recorder: .* it ended without an answer", line)
        assert address in recorded(recorder)


def test_sessions_open_when_every_place_of_the_recorder_waits_for_the_database():
    with SmallRecorder(**LONGEST_WAITS) as recorder:
        with held_database(recorder):
            waiting = []
            for _ in range(recorder.capacity - 1):
                waiting.append(connect_as("root", recorder.socket))
                waiting[-1].sendall(format_request(next_address(), b"alice", b""))
            wait_until(lambda: recorder.status()["waiting"] == 19, PATIENCE_S, "the logins")
            waiting.append(connect_as("root", recorder.socket))
            waiting[-1].sendall(format_request(next_address(), b"alice", b""))
            address = next_address()
            ended = wrapped_session(recorder, address, wait="2")
            assert ended.seconds < 2 + SLACK_S
            assert "no answer in time" in ended.stderr
        # It is recorded all the same, by the recorder or the process beside the session.
        wait_until(lambda: address in recorded(recorder), PATIENCE_S, "the row")
        for peer in waiting:
            with peer:
                assert read_all(peer) == b"OK\n"
