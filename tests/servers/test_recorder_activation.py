"""What a service manager passes to the recorder, and hears of it (sd_listen_fds, sd_notify)."""

import contextlib
import socket
import sys
import threading

import pytest

from popbsmtp_wrap.wire import format_request
from tests.servers.recorder_place import (
    PATIENCE_S,
    Recorder,
    answers,
    dovecot_request,
)

# Between fork and exec: the descriptors go to 3 and up, the variables name this very process.
_MANAGER = """
import os, socket, sys
handover, notify, watchdog, pid = sys.argv[1:5]
peer = socket.socket(socket.AF_UNIX)
peer.connect(handover)
passed = socket.recv_fds(peer, 1, 100)[1]
high = [os.dup2(passed[n], 200 + n) for n in range(len(passed))]
for n in range(len(high)):
    os.dup2(high[n], 3 + n)
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=pid or str(os.getpid()),
                  NOTIFY_SOCKET=notify)
if watchdog:
    os.environ.update(WATCHDOG_USEC=watchdog, WATCHDOG_PID=str(os.getpid()))
os.execv(sys.argv[5], sys.argv[5:])
"""


class Activated(Recorder):
    """A recorder to which this process passes the sockets, and which it listens to."""

    def __init__(self, *, watchdog_us="", listen_pid="", **options):
        super().__init__(**options)
        self.prepare()
        self._watchdog_us = watchdog_us
        self._listen_pid = listen_pid
        self.passed = []
        for path in (self.socket, *self.postlogin.values()):
            self.pass_socket(path)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(self.home / "notify"))
        self.manager.settimeout(PATIENCE_S)

    def pass_socket(self, path):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(4096)
        self.passed.append(listener)

    def command(self):
        words = [f"{self.home}/handover", f"{self.home}/notify", self._watchdog_us]
        return [sys.executable, "-c", _MANAGER, *words, self._listen_pid, *super().command()]

    def start(self):
        with socket.socket(socket.AF_UNIX) as handover:
            handover.bind(str(self.home / "handover"))
            handover.listen()
            hand_over = threading.Thread(target=self._hand_over, args=(handover,), daemon=True)
            hand_over.start()
            super().start()
            hand_over.join(PATIENCE_S)
        (self.home / "handover").unlink()

    def _hand_over(self, handover):
        with handover.accept()[0] as peer:
            socket.send_fds(peer, [b"x"], [listener.fileno() for listener in self.passed])

    def heard(self):
        """Return what the recorder has said next, line by line."""
        return self.manager.recv(4096).decode().splitlines()

    def heard_all(self):
        """Return what the recorder has said and nobody has heard yet."""
        said = []
        self.manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(self.heard())
        self.manager.settimeout(PATIENCE_S)
        return said


def asking(recorder, numbers):
    """Return connections of both protocols that have asked."""
    peers = []
    for number in numbers:
        peers.append(recorder.connect())
        peers[-1].sendall(format_request(f"198.51.100.{number}", b"alice", b"imap"))
        peers.append(recorder.connect(recorder.postlogin["imap"]))
        peers[-1].sendall(dovecot_request(f"203.0.113.{number}"))
    return peers


def test_passed_sockets_are_served_and_stay_when_the_recorder_ends():
    recorder = Activated()
    inodes = {path: path.stat().st_ino for path in recorder.run_directory.iterdir()}
    with recorder:
        assert answers(asking(recorder, [1])) == [b"OK\n", b"alice\thome=/home/alice\n"]
        recorder.stop()
        assert recorder.exit_status == 0
    # No lock files either: the directory may be closed for the recorder.
    assert {path: path.stat().st_ino for path in recorder.run_directory.iterdir()} == inodes


def test_ready_comes_when_logins_that_have_waited_since_before_are_served():
    recorder = Activated()
    peers = asking(recorder, range(50))
    with recorder:
        assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"] * 50
        said = recorder.heard()
        assert said[0] == "READY=1"
        paths = " ".join(map(str, (recorder.socket, *recorder.postlogin.values())))
        assert said[1] == f"STATUS=listening at {paths}"
        assert len(recorder.rows()) == 100
    assert recorder.heard() == ["STOPPING=1"]
    assert recorder.heard_all() == []


def test_no_login_that_waits_is_lost_to_kills():
    recorder = Activated()
    recorder.start()
    for round_ in range(3):
        recorder.pause()
        peers = asking(recorder, range(20 * round_, 20 * round_ + 20))
        recorder.kill()
        recorder.start()
        assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"] * 20
    assert len(recorder.rows()) == 120
    recorder.stop()


def test_logins_that_come_while_it_stops_are_answered_by_the_next_one():
    recorder = Activated()
    recorder.start()
    recorder.stop()
    peers = asking(recorder, range(20))
    recorder.start()
    assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"] * 20
    recorder.stop()


def test_reload_is_announced_and_ended():
    with Activated() as recorder:
        recorder.heard_all()
        recorder.hup()
        reloading = recorder.heard()
        assert reloading[0] == "RELOADING=1"
        assert reloading[1].startswith("MONOTONIC_USEC=")
        assert recorder.heard() == ["READY=1"]
        recorder.configure(top="grace = 'soon'")
        recorder.hup()
        assert recorder.heard()[0] == "RELOADING=1"
        assert recorder.heard() == ["READY=1"]


def test_watchdog_hears_of_it_again_and_again_until_it_hangs():
    with Activated(watchdog_us="300000") as recorder:
        # In any order with READY=1.
        said = [recorder.heard() for _ in range(6)]
        assert said.count(["WATCHDOG=1"]) == 5
        recorder.pause()
        recorder.heard_all()
        recorder.manager.settimeout(0.5)
        with pytest.raises(TimeoutError):
            recorder.heard()
        recorder.resume()
        recorder.manager.settimeout(PATIENCE_S)
        assert recorder.heard() == ["WATCHDOG=1"]


def test_without_a_watchdog_nothing_is_said_of_life():
    with Activated() as recorder:
        assert recorder.heard()[0] == "READY=1"
        recorder.login("198.51.100.7")
        assert recorder.heard_all() == []


def test_sockets_that_were_passed_to_another_process_are_not_taken():
    recorder = Activated(listen_pid="1")
    with pytest.raises(RuntimeError, match=f"listens at {recorder.socket}, or systemd does"):
        recorder.start()


def test_passed_socket_that_the_configuration_does_not_name_is_logged_and_left_alone():
    recorder = Activated()
    other = recorder.run_directory / "other"
    recorder.pass_socket(other)
    with recorder:
        assert [event["path"] for event in recorder.events("unused_socket")] == [str(other)]
        with recorder.connect(other) as peer:
            peer.setblocking(False)
            assert recorder.login("198.51.100.7") == ("OK", "")
            with pytest.raises(BlockingIOError):
                peer.recv(1)
        # Until a reload names it.
        recorder.postlogin["managesieve"] = other
        recorder.configure()
        recorder.hup()
        assert recorder.dovecot_login("198.51.100.8", service="managesieve") != b""


def test_socket_that_was_not_passed_is_made():
    recorder = Activated()
    sieve = recorder.run_directory / "sieve"
    recorder.postlogin["managesieve"] = sieve
    recorder.configure()
    with recorder:
        assert recorder.dovecot_login("198.51.100.7", service="managesieve") != b""
        assert answers(asking(recorder, [1])) == [b"OK\n", b"alice\thome=/home/alice\n"]
