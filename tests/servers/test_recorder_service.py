"""popbsmtp serve as a service: its end, its reload, a second one, its user, its descriptors."""

import contextlib
import os
import pwd
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import time
from pathlib import Path

import pytest

from popbsmtp_wrap.wire import format_request
from tests.harness.directories import give, public_directory
from tests.harness.machine import REPOSITORY
from tests.harness.process import wait_until
from tests.servers.recorder_place import (
    PATIENCE_S,
    Recorder,
    answers,
    dovecot_request,
    fields,
    read_all,
)

PAGE = REPOSITORY / "docs" / "recorder.md"
# Longer than any test; [wrapper] wait and reply_timeout are how long a login may take.
PATIENT = {"top": "wrapper = { wait = 50 }", "recorder": "reply_timeout = 50"}


@pytest.fixture
def recorder():
    with Recorder() as made:
        yield made


@contextlib.contextmanager
def locked(recorder):
    """Keep the SQLite store locked, so that no commit ends."""
    connection = sqlite3.connect(recorder.store, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def logins_in_flight(recorder, count):
    """Return *count* connections by each protocol that have asked, all known to the recorder."""
    peers = []
    for number in range(count):
        peers.append(recorder.connect())
        peers[-1].sendall(format_request(f"198.51.100.{number}", b"alice", b"imap"))
        peers.append(recorder.connect(recorder.postlogin["pop3"]))
        peers[-1].sendall(dovecot_request(f"203.0.113.{number}"))
    wait_until(lambda: sum(recorder.status()["logins"].values()) == 2 * count, 10, "the logins")
    return peers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_logins_in_flight_are_answered_before_the_end(number):
    with Recorder(database="connect_timeout = 50", **PATIENT) as recorder:
        with locked(recorder):
            peers = logins_in_flight(recorder, 10)
            recorder.send_signal(number)
            wait_until(lambda: not connects(recorder.socket), 10, "the end of listening")
            assert recorder.running
        assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"] * 10
        recorder.wait_for_end()
        assert recorder.exit_status == 0
        assert len(recorder.rows()) == 20
        assert [event["event"] for event in recorder.events()] == ["started", "stopped"]


def test_logins_that_no_database_takes_are_spooled_before_the_end(recorder):
    with locked(recorder):
        peers = logins_in_flight(recorder, 10)
        recorder.stop()
        assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"] * 10
        assert recorder.exit_status == 0
        assert recorder.events("stopped")[0]["lost"] == "0"
    assert recorder.rows() == {}
    assert recorder.toolkit("flush").stdout == "20\n"
    assert len(recorder.rows()) == 20


def connects(path):
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(str(path))
        except OSError:
            return False
    return True


def test_peers_that_connect_before_the_end_and_ask_after_it_are_answered():
    """Dovecot connects and sends in two calls; the end waits for a second."""
    for _ in range(10):
        with Recorder() as recorder:
            late = [
                recorder.connect(path) for path in (recorder.postlogin["imap"], recorder.socket)
            ]
            silent = recorder.connect()
            wait_until(lambda: recorder.status()["connections"] == 4, PATIENCE_S, "three peers")
            ended_at = time.monotonic()
            recorder.send_signal(signal.SIGTERM)
            wait_until(lambda: refused(recorder.socket), PATIENCE_S, "the end of listening")
            with contextlib.suppress(BrokenPipeError):
                late[0].sendall(dovecot_request("198.51.100.7"))
                late[1].sendall(format_request("198.51.100.8", b"alice", b"imap"))
            in_time = time.monotonic() - ended_at < 0.8
            found = answers(late)
            recorder.wait_for_end()
            assert recorder.exit_status == 0
            with silent:
                assert read_all(silent) == b""
            if in_time:
                assert found == [b"alice\thome=/home/alice\n", b"OK\n"]
                assert recorder.rows().keys() == {"198.51.100.7", "198.51.100.8"}
                return
    pytest.fail("this machine takes more than 0.8 s for a few system calls, ten times")


def refused(path):
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
    return False


def test_peers_in_the_queue_of_a_socket_that_a_reload_closes_are_answered(recorder):
    recorder.pause()
    peers = []
    for number in range(20):
        peers.append(recorder.connect(recorder.postlogin["pop3"]))
        peers[-1].sendall(dovecot_request(f"198.51.100.{number}"))
    del recorder.postlogin["pop3"]
    recorder.configure()
    recorder.send_signal(signal.SIGHUP)
    recorder.resume()
    assert answers(peers) == [b"alice\thome=/home/alice\n"] * 20
    wait_until(lambda: recorder.events("reloaded"), PATIENCE_S, "the reload")
    assert len(recorder.rows()) == 20


def test_end_leaves_no_socket_of_the_wrapper(recorder):
    recorder.stop()
    assert not recorder.socket.exists()
    recorder.start()
    assert recorder.login("198.51.100.7") == ("OK", "")


def test_end_after_a_reload_is_as_good_as_before(recorder):
    assert recorder.hup()["event"] == "reloaded"
    assert recorder.login("198.51.100.7") == ("OK", "")
    recorder.stop()
    assert recorder.exit_status == 0
    assert [e["event"] for e in recorder.events()] == ["started", "reloaded", "stopped"]


def test_reload_takes_other_networks(recorder):
    recorder.configure(ignore='networks = ["198.51.100.0/24"]')
    assert recorder.hup()["event"] == "reloaded"
    assert recorder.login("198.51.100.7") == ("OK", "")
    assert recorder.login("203.0.113.7") == ("OK", "")
    assert set(recorder.rows()) == {"203.0.113.7"}


def test_reload_takes_another_grace_and_refresh(recorder):
    def outcomes_of_two_logins(address):
        before = recorder.status()["outcomes"]
        recorder.login(address)
        recorder.login(address)
        after = recorder.status()["outcomes"]
        return {name: count - before.get(name, 0) for name, count in after.items()}

    assert outcomes_of_two_logins("198.51.100.7") == {"committed": 1, "remembered": 1}
    recorder.configure(top="grace = 60", recorder="refresh = 0")
    recorder.hup()
    assert outcomes_of_two_logins("198.51.100.7")["committed"] == 2
    # What is spooled for longer than grace is dropped.
    with locked(recorder):
        recorder.login("198.51.100.8")
        (segment,) = recorder.spool.glob("*.spool")
        assert b"198.51.100.8" in segment.read_bytes()


def test_reload_takes_other_users():
    with Recorder(recorder='socket_mode = "0666"') as recorder:
        assert asked_as(recorder, "nobody").startswith(b"NO\t")
        recorder.configure(recorder='socket_mode = "0666"\nusers = ["nobody"]')
        recorder.hup()
        assert asked_as(recorder, "nobody") == b"OK\n"
        recorder.configure(recorder='socket_mode = "0666"')
        recorder.hup()
        assert asked_as(recorder, "nobody").startswith(b"NO\t")


_ASK = """
import contextlib, socket, sys
peer = socket.socket(socket.AF_UNIX)
peer.settimeout(20)
peer.connect(sys.argv[1])
# It may say no, and close, before it was asked.
with contextlib.suppress(BrokenPipeError):
    peer.sendall(sys.argv[2].encode())
with contextlib.suppress(ConnectionResetError):
    while data := peer.recv(4096):
        sys.stdout.buffer.write(data)
"""


def asked_as(recorder, user, request="popbsmtp/1\t198.51.100.7\t\t\n"):
    """Return the answer of the wrapper's socket to *user*."""
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", _ASK, str(recorder.socket), request],
        stdout=subprocess.PIPE,
        user=user,
        group=pwd.getpwnam(user).pw_gid,
        extra_groups=[],
        check=True,
        timeout=60,
    )
    return done.stdout


def test_reload_opens_and_closes_sockets(recorder):
    pop3 = recorder.postlogin.pop("pop3")
    recorder.postlogin["managesieve"] = recorder.run_directory / "sieve"
    recorder.configure()
    recorder.hup()
    assert recorder.dovecot_login("198.51.100.7", service="managesieve") != b""
    assert recorder.dovecot_login("198.51.100.8", service="imap") != b""
    assert not pop3.exists()
    # That event is for sockets that systemd has passed.
    assert recorder.events("unused_socket") == []
    assert "managesieve" in recorder.toolkit("list").stdout


def test_reload_goes_to_another_database(recorder):
    recorder.login("198.51.100.7")
    recorder.configure(url=f"sqlite:///{recorder.store}.new")
    assert recorder.toolkit("init").returncode == 0
    recorder.hup()
    recorder.login("198.51.100.7")
    recorder.login("198.51.100.8")
    assert set(recorder.rows()) == {"198.51.100.7", "198.51.100.8"}
    assert recorder.status()["database"]["url"].endswith("/popbsmtp.db.new")
    recorder.configure(url=f"sqlite:///{recorder.store}")
    assert set(recorder.rows()) == {"198.51.100.7"}


def test_reload_says_what_needs_a_restart(recorder):
    recorder.spool = recorder.home / "elsewhere"
    recorder.becomes = "dovecot"
    recorder.configure(recorder='log = "syslog"\nsocket_mode = "0666"')
    recorder.hup()
    keys = {event["key"] for event in recorder.events("restart_needed")}
    assert keys == {f"recorder.{key}" for key in ("spool", "user", "log", "socket_mode")}
    assert recorder.login("198.51.100.7") == ("OK", "")


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"top": "grace = 'soon'"}, "grace: found 'soon', expected"),
        ({"top": "= ="}, "is not TOML"),
        ({"recorder": "users = ['no-such-user']"}, "there is no user 'no-such-user'"),
        ({"recorder": "socket_group = 'none'"}, "socket_group"),
        ({"database": "password_file = '/nonexistent'"}, "/nonexistent cannot be read"),
    ],
)
def test_reload_of_a_bad_configuration_changes_nothing(recorder, parts, said):
    recorder.postlogin["managesieve"] = recorder.run_directory / "sieve"
    recorder.configure(ignore='networks = ["198.51.100.0/24"]', **parts)
    event = recorder.hup()
    assert event["event"] == "reload_failed"
    assert said in event["error"]
    recorder.login("198.51.100.7")
    assert recorder.status()["outcomes"] == {"committed": 1}
    assert not recorder.postlogin["managesieve"].exists()
    assert recorder.dovecot_login("198.51.100.8", service="pop3") != b""
    recorder.stop()
    assert recorder.exit_status == 0


def test_reload_with_a_socket_that_cannot_be_made_leaves_none_of_the_new_ones(recorder):
    recorder.postlogin["managesieve"] = recorder.run_directory / "sieve"
    recorder.postlogin["submission"] = recorder.config / "no-directory"
    recorder.configure()
    event = recorder.hup()
    assert event["event"] == "reload_failed"
    assert f"{recorder.config}/no-directory: " in event["error"]
    assert not connects(recorder.postlogin["managesieve"])
    del recorder.postlogin["submission"]
    recorder.configure()
    assert recorder.hup()["event"] == "reloaded"
    assert recorder.dovecot_login("198.51.100.8", service="managesieve") != b""


def test_second_recorder_for_the_same_sockets_ends_with_69(recorder):
    second = recorder.toolkit("serve")
    assert second.returncode == 69
    assert f"popbsmtp: another recorder listens at {recorder.socket}" in second.stderr
    assert recorder.login("198.51.100.7") == ("OK", "")


def test_second_recorder_for_the_same_spool_ends_with_75(recorder):
    with contextlib.ExitStack() as stack:
        second = Recorder()
        second.prepare()
        second.spool = recorder.spool
        second.configure()
        done = second.toolkit("serve")
        stack.callback(second.kill)
    assert done.returncode == 75
    expected = f"popbsmtp: another recorder uses the spool {recorder.spool}; see: popbsmtp status"
    assert expected in done.stderr
    assert not connects(second.socket)
    assert recorder.login("198.51.100.7") == ("OK", "")


def test_sockets_of_a_killed_recorder_are_replaced(recorder):
    recorder.kill()
    assert stat.S_ISSOCK(recorder.socket.stat().st_mode)
    recorder.start()
    assert recorder.login("198.51.100.7") == ("OK", "")
    assert recorder.dovecot_login("198.51.100.8") != b""


@pytest.mark.parametrize("name", ["login.sock", "imap-postlogin"])
def test_file_in_the_place_of_a_socket_is_left_alone(name):
    recorder = Recorder()
    recorder.prepare()
    path = recorder.run_directory / name
    path.write_text("precious")
    done = recorder.toolkit("serve")
    assert done.returncode == 77
    assert done.stderr == f"popbsmtp: {path} exists and is no socket; remove it\n"
    assert path.read_text() == "precious"


def test_root_becomes_the_user_and_makes_what_is_his():
    recorder = Recorder(becomes="dovecot", recorder='socket_group = "mail"\nsocket_mode = "0620"')
    recorder.prepare()
    recorder.spool.rmdir()
    recorder.run_directory.rmdir()
    with recorder:
        dovecot = pwd.getpwnam("dovecot")
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{recorder.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert status["Uid"].split() == [str(dovecot.pw_uid)] * 4
        assert status["Gid"].split() == [str(dovecot.pw_gid)] * 4
        groups = os.getgrouplist("dovecot", dovecot.pw_gid)
        assert sorted(map(int, status["Groups"].split())) == sorted(groups)
        assert int(status["CapEff"], 16) == 0
        assert owner_and_mode(recorder.run_directory) == ("dovecot", "dovecot", 0o755)
        assert owner_and_mode(recorder.spool) == ("dovecot", "dovecot", 0o700)
        for path in (recorder.socket, *recorder.postlogin.values()):
            assert owner_and_mode(path) == ("dovecot", "mail", 0o620)
        assert recorder.login("198.51.100.7") == ("OK", "")
        assert set(recorder.rows()) == {"198.51.100.7"}
        # Without root's rights it can still do all of it again.
        recorder.hup()
        assert recorder.login("198.51.100.8") == ("OK", "")
        recorder.stop()
        assert recorder.exit_status == 0


def owner_and_mode(path):
    found = path.stat()
    return path.owner(), path.group(), stat.S_IMODE(found.st_mode)


def test_unknown_user_is_named_with_the_command_to_type():
    recorder = Recorder(becomes="nonesuch")
    done = recorder.toolkit("serve")
    assert done.returncode == 78
    assert done.stderr == (
        "popbsmtp: recorder.user: there is no user 'nonesuch';"
        " run: useradd --system --user-group --no-create-home nonesuch\n"
    )


class Shell(Recorder):
    """A recorder that a shell starts with *redirections*; its log goes where they say."""

    def __init__(self, redirections, **options):
        super().__init__(**options)
        self._redirections = redirections

    def command(self):
        return ["/bin/sh", "-c", f'exec "$@" {self._redirections}', "sh", *super().command()]


@pytest.mark.parametrize("closed", ["<&- >&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_are_not_taken_for_anything_else(closed):
    with Shell(closed) as recorder:
        targets = {os.readlink(f"/proc/{recorder.pid}/fd/{number}") for number in (0, 1)}
        assert targets == {"/dev/null"}
        for number in range(30):
            assert recorder.login(f"198.51.100.{number}", "bob")[0] == "OK"
            with recorder.connect() as peer:
                peer.sendall(b"nonsense\n")
                assert read_all(peer).startswith(b"NO\t")
        assert len(recorder.rows()) == 30
        with sqlite3.connect(recorder.store) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        recorder.stop()
        assert recorder.exit_status == 0


def test_pipe_that_nobody_reads_holds_nothing_up():
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    with Shell(f"2>/proc/{os.getpid()}/fd/{writing}") as recorder:
        # The started recorder holds a description of its own; fill the pipe for both.
        os.set_blocking(writing, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writing, b"x" * 512)
        for number in range(50):
            with recorder.connect() as peer:
                peer.sendall(b"nonsense\n")
                assert read_all(peer).startswith(b"NO\t")
            assert recorder.login(f"198.51.100.{number}")[0] == "OK"
        assert len(recorder.rows()) == 50
        recorder.stop()
        assert recorder.exit_status == 0
    os.close(reading)
    os.close(writing)


def test_every_line_of_the_log_is_fields_whatever_comes_in(recorder):
    evil = 'x\nevent=reloaded time=1 "\x1b[2J\x00\u2028'
    assert recorder.login("198.51.100.7", evil)[0] == "OK"
    recorder.dovecot_login("not an address\rtime=1", evil.replace("\n", "\001n"))
    for path in (recorder.socket, recorder.postlogin["imap"]):
        for request in (
            b"nonsense\nevent=evil\n",
            f"popbsmtp/1\t{evil}\t\t\n".encode(),
            b"popbsmtp-control/1\trevoke\tevent=evil\n",
            b"VERSION\tscript-login\t2\t0\nevent=evil\n",
            b"\x00\xff\r\nevent=evil\r\n",
        ):
            with recorder.connect(path) as peer:
                peer.sendall(request)
                read_all(peer)
    recorder.stop()
    assert {event["event"] for event in recorder.events()} == {
        "started",
        "bad_request",
        "not_recorded",
        "connection_dropped",
        "stopped",
    }
    # Of Dovecot's request one line is half, and no more of it comes.
    assert [event["why"] for event in recorder.events("connection_dropped")] == ["silent"]
    assert len(recorder.events("bad_request")) == 9
    assert recorder.log_text().isascii()
    assert all(line.startswith("time=2") for line in recorder.log_text().splitlines())


class WithSyslog(Recorder):
    """A recorder that sees *home*/log as /dev/log, and of other devices what it needs."""

    _PRIVATE_DEV = """
        mount -t tmpfs tmpfs /mnt
        for name in null urandom random zero; do
            touch /mnt/$name; mount --bind /dev/$name /mnt/$name
        done
        ln -s "$0" /mnt/log
        mount --move /mnt /dev
        exec "$@"
    """

    def command(self):
        log = str(self.home / "log")
        return ["unshare", "--mount", "sh", "-ec", self._PRIVATE_DEV, log, *super().command()]


def test_syslog_gets_events_of_facility_mail_and_is_found_again_after_its_restart():
    recorder = WithSyslog(recorder='log = "syslog"')

    @contextlib.contextmanager
    def syslog():
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
            bound.settimeout(PATIENCE_S)
            bound.bind(str(recorder.home / "log"))
            yield bound
        (recorder.home / "log").unlink()

    def line(bound):
        head, _, message = bound.recv(4096).decode("ascii").partition(f"[{recorder.pid}]: ")
        # RFC 3164: <facility * 8 + severity>, here mail (2) and info (6).
        assert head.startswith("<22>")
        assert head.endswith(" popbsmtp")
        return fields(message)

    with contextlib.ExitStack() as stack:
        with syslog() as bound:
            stack.enter_context(recorder)
            assert line(bound)["event"] == "started"
        # Nobody listens: the event is lost, the login is not.
        recorder.dovecot_login("lost")
        assert recorder.login("198.51.100.7") == ("OK", "")
        with syslog() as bound:
            recorder.dovecot_login("found")
            assert "found" in line(bound)["error"]
    assert recorder.log_text() == ""


def test_directory_of_the_sockets_is_made_where_it_is_missing():
    folder = public_directory()
    give(folder, "dovecot", mode=0o755)
    recorder = Recorder(user="dovecot")
    recorder.prepare()
    recorder.run_directory = folder / "a" / "b"
    recorder.socket = recorder.run_directory / "login.sock"
    recorder.configure()
    with recorder:
        assert recorder.login("198.51.100.7") == ("OK", "")
        assert owner_and_mode(recorder.run_directory) == ("dovecot", "dovecot", 0o755)


def test_the_page_explains_every_event_and_no_other():
    package = REPOSITORY / "popbsmtp_wrap"
    logged = {
        name
        for folder in ("recorder", "server", "daemon")
        for path in (package / folder).rglob("*.py")
        for name in re.findall(r'\.event\(\s*"(\w+)"', path.read_text())
    }
    assert explained("event") == logged


def test_the_page_explains_every_key_of_the_status(recorder):
    # The last is of a recorder that a login has started.
    assert {*recorder.status(), "linger"} == explained("key")
    for name in ("database", "spool", "sessions", "shared"):
        (row,) = re.findall(rf"^\| `{name}` \|.*", PAGE.read_text(), re.MULTILINE)
        assert set(recorder.status()[name]) <= set(re.findall(r"`(\w+)`", row))


def explained(heading):
    """Return the names in the first column of a table of the page."""
    (table,) = re.findall(rf"^\| {heading} \|.*?\n\n", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return {
        name
        for row in table.strip().splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
