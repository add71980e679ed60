"""popbsmtp revoke ends with 0 only if all who may hold a login from before have confirmed it."""

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from popbsmtp_wrap.spool.directory import lock
from tests.servers.recorder_place import Recorder

ADDRESS = "198.51.100.7"
# Connecting, the recorder and the rest of `revoke` have bounds of together 12 s; Python has to
# start, on a machine that does other things.
BOUND_S = 30


@pytest.fixture
def recorder():
    with Recorder() as made:
        yield made


def is_revoked(recorder, address=ADDRESS):
    with contextlib.closing(sqlite3.connect(recorder.store, timeout=20)) as connection:
        query = "SELECT last_seen FROM popbsmtp WHERE address = ?"
        [(seen,)] = connection.execute(query, (address,)).fetchall()
    return 0 <= time.time() - 631_152_000 - seen < 600


@pytest.mark.parametrize("which", [ADDRESS, "--all"])
def test_a_recorder_that_hangs_ends_in_status_75_with_the_row_revoked(recorder, which):
    recorder.login(ADDRESS)
    recorder.pause()
    try:
        started = time.monotonic()
        done = recorder.toolkit("revoke", which)
        assert time.monotonic() - started < BOUND_S
    finally:
        recorder.resume()
    assert (done.returncode, done.stdout) == (75, "1\n")
    assert "may come back" in done.stderr
    assert "revoke again" in done.stderr
    assert is_revoked(recorder)
    assert recorder.toolkit("revoke", which).returncode == 0


def test_a_recorder_that_refuses_ends_in_status_75():
    """Who is not root or the recorder's user cannot know what it holds."""
    with Recorder(recorder='socket_mode = "0666"') as recorder:
        recorder.login(ADDRESS)
        recorder.config.chmod(0o644)
        subprocess.run(["chmod", "-R", "a+rwX", recorder.store.parent], check=True)
        done = recorder.toolkit("revoke", ADDRESS, user="nobody", group="nogroup", extra_groups=[])
        assert (done.returncode, done.stdout) == (75, "1\n")
        # The reason is lost where the connection is closed before the request was read.
        assert "may come back" in done.stderr
        assert is_revoked(recorder)


def test_a_listening_socket_that_nobody_reads_is_no_confirmation(recorder):
    recorder.stop()
    with contextlib.suppress(FileNotFoundError):
        recorder.socket.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(recorder.socket))
        listener.listen(8)
        done = recorder.toolkit("revoke", ADDRESS)
        assert done.returncode == 75
        assert "may come back" in done.stderr
    # Now nobody holds the socket, and nobody can have asked.
    assert recorder.toolkit("revoke", ADDRESS).returncode == 0


def test_a_spool_that_another_process_holds_ends_in_status_75(recorder):
    recorder.stop()
    with lock(str(recorder.spool), 1 << 20):
        done = recorder.toolkit("revoke", ADDRESS)
    assert done.returncode == 75
    assert "spool" in done.stderr
    assert is_revoked(recorder)
    assert recorder.toolkit("revoke", ADDRESS).returncode == 0


def test_without_a_recorder_and_a_spool_nothing_can_wait(recorder):
    recorder.stop()
    shutil.rmtree(recorder.spool)
    done = recorder.toolkit("revoke", ADDRESS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


HANGING_RESOLVER = """
import socket, sys, time
sys.argv[0] = "popbsmtp"
def hang(*_, **__):
    time.sleep(600)
socket.getaddrinfo = hang
from popbsmtp_wrap.cli.main import main
main()
"""


@pytest.mark.parametrize("url", ["postgresql://x@db.example/mail", "mysql://x@db.example/mail"])
def test_a_resolver_that_hangs_does_not_hold_revoke_up(recorder, url):
    recorder.stop()
    recorder.configure(url=url)
    words = ["-c", str(recorder.config), "revoke", ADDRESS]
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING_RESOLVER, *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert time.monotonic() - started < BOUND_S
    assert done.returncode == 75
    assert "db.example" in done.stderr


def test_login_of_a_revoked_address_that_waits_in_another_hosts_spool_stays_out(recorder):
    """Its recorder drains it after the revocation, and knows nothing of that."""
    with Recorder(url=f"sqlite:///{recorder.store}") as other:
        other.stop()
        hidden = recorder.store.parent.rename(recorder.store.parent.with_name("hidden"))
        other.start()
        assert other.login(ADDRESS) == ("OK", "")
        assert other.login("203.0.113.7") == ("OK", "")
        assert other.status()["outcomes"] == {"spooled": 2}
        other.pause()
        hidden.rename(recorder.store.parent)
        try:
            time.sleep(1.1)
            assert recorder.toolkit("revoke", ADDRESS).returncode == 0
        finally:
            other.resume()
        deadline = time.monotonic() + 40
        while other.status()["spool"]["logins"] and time.monotonic() < deadline:
            time.sleep(0.2)
        assert set(recorder.rows()) == {"203.0.113.7"}
        assert is_revoked(recorder)
