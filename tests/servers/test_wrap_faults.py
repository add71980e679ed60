"""Whatever is broken, the mailbox opens in time, one line says why, and nothing is left behind."""

import contextlib
import os
import sqlite3
import subprocess
import time

import pytest

from tests.harness.directories import public_directory
from tests.harness.process import wait_until
from tests.servers.wrap_fixtures import (
    GREETING,
    LOGIN,
    RECORDED,
    SLACK_S,
    Place,
    descriptors,
    end_recorders,
    launcher,
    only_recorder,
    recording_processes,
    session,
)

# Nobody's: it has no other process that RLIMIT_NPROC would count.
STRANGER = 54332
WAIT_S = 2.0


@pytest.fixture
def path():
    return public_directory()


@contextlib.contextmanager
def locked(place):
    """Hold the database's write lock: it is there and gives no answer."""
    connection = sqlite3.connect(place.database, isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


def broken_configuration(path, kind):
    config = path / "popbsmtp.toml"
    if kind == "directory":
        config.mkdir()
    elif kind == "dead link":
        config.symlink_to(path / "nothing")
    elif kind != "missing":
        config.write_bytes(CONFIGURATIONS[kind][0])
        config.chmod(0o600 if kind == "unreadable" else 0o644)
    return config


CONFIGURATIONS = {
    "missing": (b"", "does not exist"),
    "dead link": (b"", "does not exist"),
    "directory": (b"", "cannot be read: Is a directory"),
    "unreadable": (b"", "cannot be read: Permission denied"),
    "no TOML": (b"[database\n", "is not TOML"),
    "no text": (b"\xff\xfe\0", "is not UTF-8 text"),
    "unknown key": (b"[database]\nport = 1\n", "database.port: unknown key"),
    "bad value": (b'grace = "soon"\n', "grace: found 'soon', expected"),
    "open password": (
        b'[database]\nurl = "postgresql://a:secret@localhost/b"\n',
        "is readable by everyone; run: chmod o-rwx",
    ),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_broken_configuration_is_named(path, kind):
    config = broken_configuration(path, kind)
    options = {"user": STRANGER} if kind == "unreadable" else {}
    ended = session([launcher(), "--config", str(config), *GREETING], LOGIN, **options)
    (line,) = ended.lines
    assert line.startswith(f"popbsmtp-wrap: 198.51.100.7 not recorded: {config}")
    assert CONFIGURATIONS[kind][1] in line
    assert "secret" not in line
    assert ended.seconds < WAIT_S + SLACK_S
    wait_until(lambda: not recording_processes(config), 60, "the end of the recorder")


def test_configuration_may_be_named_relative_to_the_directory(place):
    command = [launcher(), "--wait", "30", "--config", place.config.name, *GREETING]
    assert session(command, LOGIN, cwd=place.base).lines == []
    assert place.rows() == RECORDED


def test_program_runs_in_a_directory_that_was_removed(place, path):
    """A user's home may be gone; with an absolute name the login is recorded all the same."""
    gone = path / "home"
    gone.mkdir()
    ended = session(place.command(*GREETING), LOGIN, cwd=gone, prepare=gone.rmdir)
    assert ended.lines == []
    assert place.rows() == RECORDED
    gone.mkdir()
    command = [launcher(), "--config", "popbsmtp.toml", *GREETING]
    (line,) = session(command, LOGIN, cwd=gone, prepare=gone.rmdir).lines
    assert "not recorded: popbsmtp.toml does not exist" in line


def test_program_waits_two_seconds_at_most_for_a_configuration_that_never_comes(path):
    config = path / "popbsmtp.toml"
    os.mkfifo(config)
    ended = session([launcher(), "--config", str(config), *GREETING], LOGIN)
    (line,) = ended.lines
    assert line.endswith("not recorded: no answer within 2 s; it may still be, in the background")
    assert WAIT_S <= ended.seconds < WAIT_S + SLACK_S
    pid = only_recorder(config)
    held = descriptors(pid)
    # Where wrappers connect, and nothing of the client's.
    (listener,) = [one for one in held.values() if one.startswith("socket:")]
    assert set(held.values()) == {"/dev/null", listener}
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    end_recorders(config)


@pytest.mark.slow
def test_nothing_is_left_after_a_minute(path):
    config = path / "popbsmtp.toml"
    os.mkfifo(config)
    command = [launcher(), "--wait", "0", "--config", str(config), *GREETING]
    for _ in range(3):
        assert session(command, LOGIN).lines == []
    only_recorder(config)
    wait_until(lambda: not recording_processes(config), 120, "the end of the one recorder")


@pytest.mark.parametrize(
    ("configured", "options", "wait_s"),
    [
        ("0.5s", [], 0.5),
        ("4s", [], 4),
        ("0", [], 0.0),
        ("4s", ["--wait", "0.5"], 0.5),
        ("0.5s", ["--wait=3s"], 3),
        ("2s", ["--wait", "0"], 0.0),
        ("2s", ["--wait", "1e-3"], 0.0),
    ],
)
def test_wait_is_that_of_the_command_line_else_of_the_configuration(
    place, configured, options, wait_s
):
    place.configure(f'[wrapper]\nwait = "{configured}"\n', database='connect_timeout = "30s"')
    with locked(place):
        ended = session(place.command(*options, *GREETING, wait=""), LOGIN)
        assert wait_s <= ended.seconds < wait_s + SLACK_S
        if options[1:] != ["0"]:
            assert "in the background" in ended.lines[0]
    wait_until(lambda: place.rows() == RECORDED, 30, "the late row")


@pytest.mark.parametrize("wait", ["soon", "-1", "51", "nan", "inf", "1h", "٣"])
def test_bad_wait_is_named_and_two_seconds_are_used(place, wait):
    line, *late = session(place.command(*GREETING, wait=wait), LOGIN).lines
    assert line == f"popbsmtp-wrap: --wait {wait!a} is not 0 to 50 seconds; using 2"
    assert all("no answer within 2 s" in other for other in late)
    wait_until(lambda: place.rows() == RECORDED, 30, "the row")


def test_late_row_is_as_old_as_its_login(place):
    place.configure(database='connect_timeout = "1s"')
    started = time.time()
    with locked(place):
        (line,) = session(place.command(*GREETING, wait="2"), LOGIN).lines
        assert "not recorded" in line
        time.sleep(5)
    wait_until(lambda: place.rows() == RECORDED, 30, "the late row")
    (((seen,),)) = place.query("SELECT last_seen FROM popbsmtp")
    assert started - 3 <= seen <= started + 3
    wait_until(lambda: not recording_processes(place.config), 60, "its end")


def test_one_process_tries_a_database_that_hangs_for_all():
    """A database that hangs under many logins must not take the memory of the host."""
    user = 60000 + os.getpid() % 5000
    place = Place(public_directory(), owner=user)
    place.configure(database='connect_timeout = "0.2s"')
    with locked(place):
        started = []
        for number in range(60):
            login = {**LOGIN, "IP": f"198.51.100.{number}"}
            command = place.command("/bin/true", wait="0")
            started.append(subprocess.Popen(command, env=login, user=user, group=user))
            assert len(recording_processes(place.config)) <= 1
        assert [one.wait() for one in started] == [0] * len(started)
        pid = only_recorder(place.config)
        for _ in range(10):
            time.sleep(0.1)
            assert recording_processes(place.config) == [pid]
    wait_until(lambda: len(place.rows()) == len(started), 60, "all rows")
    end_recorders(place.config)
