"""What the recorder does with `renew`, by which popbsmtp watch tells of sessions that go on."""

import pwd
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from popbsmtp_wrap.protocols import admin
from popbsmtp_wrap.wire import parse_answer
from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder, read_all
from tests.servers.watch_place import rows

KNOWN, UNKNOWN = "198.51.100.7", "2001:db8::7"
ASK = """\
import socket, sys
with socket.socket(socket.AF_UNIX) as peer:
    peer.connect(sys.argv[1])
    peer.sendall(sys.argv[2].encode())
    print(peer.makefile().read(), end="")
"""


@pytest.fixture
def recorder():
    with Recorder(recorder='socket_mode = "0666"\nusers = ["nobody"]') as made:
        yield made


def renew(recorder, *addresses):
    with recorder.connect() as peer:
        peer.sendall(admin.request("renew", addresses))
        return parse_answer(read_all(peer).rstrip(b"\n"))


def test_rows_that_are_there_are_renewed_and_counted(recorder):
    recorder.login(KNOWN)
    last = rows(recorder)[KNOWN]
    wait_until(lambda: time.time() > last + 2, PATIENCE_S, "another second")
    assert renew(recorder, KNOWN, UNKNOWN, "192.0.2.1", "127.0.0.1") == ("OK", "1")
    assert set(rows(recorder)) == {KNOWN}
    assert rows(recorder)[KNOWN] > last
    found = recorder.status()
    assert found["logins"] == {"wrapper": 1, "watched-sessions": 4}
    assert found["outcomes"] == {"committed": 1, "renewed": 1, "no row": 2, "ignored": 1}


def test_who_may_record_may_renew_and_others_may_not(recorder):
    recorder.login(KNOWN)

    def ask(user, line):
        words = [sys.executable, "-I", "-c", ASK, str(recorder.socket), line]
        account = pwd.getpwnam(user)
        ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        return subprocess.run(words, capture_output=True, text=True, **ids).stdout

    line = admin.request("renew", [KNOWN]).decode()
    assert ask("nobody", line) == "OK\t1\n"
    # The refusal is lost where the connection is closed before the line was read.
    assert not ask("games", line).startswith("OK")
    assert recorder.status()["logins"]["watched-sessions"] == 1
    assert "is not root or the recorder's user" in ask("nobody", line.replace("renew", "revoke"))


def test_renewals_fail_while_the_database_is_away_and_wait_nowhere(recorder):
    recorder.login(KNOWN)
    recorder.login(UNKNOWN)
    elsewhere = recorder.store.parent.rename(recorder.home / "away")
    word, why = renew(recorder, KNOWN, UNKNOWN)
    assert word == "NO"
    assert "unable to open database file" in why
    elsewhere.rename(recorder.store.parent)
    assert recorder.toolkit("revoke", UNKNOWN).stdout == "1\n"
    assert renew(recorder, KNOWN, UNKNOWN) == ("OK", "1")
    assert set(rows(recorder)) == {KNOWN}
    assert recorder.status()["spool"]["logins"] == 0


def test_a_row_that_the_database_refuses_is_named_and_the_others_are_renewed(recorder):
    recorder.login(KNOWN)
    recorder.login(UNKNOWN)
    last = rows(recorder)[UNKNOWN]
    with closing(sqlite3.connect(recorder.store, timeout=PATIENCE_S)) as connection:
        connection.execute(
            f"CREATE TRIGGER t BEFORE UPDATE ON popbsmtp WHEN old.address = '{KNOWN}'"
            " BEGIN SELECT RAISE(ABORT, 'sober'); END"
        )
        connection.commit()
    wait_until(lambda: time.time() > last + 2, PATIENCE_S, "another second")
    assert renew(recorder, KNOWN, UNKNOWN) == ("OK", "1")
    assert rows(recorder)[UNKNOWN] > last
    [event] = recorder.events("renewal_not_taken")
    assert event["address"] == KNOWN
    assert "sober" in event["error"]
    assert recorder.status()["outcomes"]["not taken"] == 1
