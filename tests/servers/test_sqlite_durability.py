"""With SQLite, what is said to be done is on the disk, and where others look for it."""

import shutil
import sqlite3
import time
from contextlib import closing

import pytest

from popbsmtp_wrap.wire import format_answer
from tests.harness.process import wait_until
from tests.harness.strace import calls, is_sync, traced
from tests.servers.recorder_load import settle
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.wrap_fixtures import GREETING, launcher, session

OK = format_answer("OK").decode().strip()


class Traced(Recorder):
    """A recorder whose calls are written to *trace*."""

    def command(self):
        self.trace = self.home / "trace"
        return [*traced(self.trace, "sendto", "sendmsg", "write", "unlink"), *super().command()]


@pytest.fixture
def recorder():
    with Recorder(recorder="refresh = 0") as running:
        yield running


@pytest.fixture
def connected(recorder):
    """A database that somebody else has open: then the end of a command brings nothing to disk."""
    with closing(sqlite3.connect(recorder.store)) as connection:
        connection.execute("SELECT count(*) FROM popbsmtp").fetchall()
        yield recorder


def remove(recorder):
    for path in recorder.store.parent.iterdir():
        path.unlink()


def test_each_acknowledgement_comes_after_an_fsync():
    with Traced(recorder="refresh = 0") as recorder:
        for number in range(5):
            assert recorder.login(f"198.51.100.{number}")[0] == "OK"
        assert recorder.dovecot_login("198.51.100.9")
    synced, answers = 0, 0
    for call in calls(recorder.trace):
        if is_sync(call, "popbsmtp.db-wal"):
            synced += 1
        elif call[0] in ("sendto", "write") and (rf'"{OK}\n"' in call[1] or "alice" in call[1]):
            answers += 1
            assert synced >= answers, "an answer without an fsync"
    assert answers == 6


def test_a_segment_of_the_spool_is_removed_after_an_fsync_of_its_rows():
    with Traced(recorder="refresh = 0") as recorder:
        away = recorder.store.parent.with_name("away")
        recorder.store.parent.rename(away)
        assert recorder.login("198.51.100.7")[0] == "OK"
        assert recorder.login("198.51.100.8")[0] == "OK"
        assert list(recorder.spool.glob("*.spool"))
        away.rename(recorder.store.parent)
        wait_until(lambda: not list(recorder.spool.glob("*.spool")), PATIENCE_S, "the drain")
        settle(recorder)
        assert recorder.rows().keys() == {"198.51.100.7", "198.51.100.8"}
    found = calls(recorder.trace)
    [spooled] = [n for n, call in enumerate(found) if is_sync(call, ".spool")][-1:]
    [removed] = [n for n, c in enumerate(found) if c[0] == "unlink" and ".spool" in c[1]][-1:]
    assert any(is_sync(call, "popbsmtp.db-wal") for call in found[spooled:removed])


@pytest.mark.parametrize(
    "command", [["record", "198.51.100.8"], ["revoke", "198.51.100.7"], ["flush"]]
)
def test_a_command_reports_after_an_fsync(connected, command, tmp_path):
    connected.login("198.51.100.7")
    away = connected.store.parent.with_name("away")
    connected.store.parent.rename(away)
    connected.login("198.51.100.9")
    connected.stop()
    away.rename(connected.store.parent)
    trace = tmp_path / "trace"
    done = connected.toolkit(*command, before=traced(trace, "write"))
    assert done.returncode == 0, done.stderr
    assert done.stdout
    found = calls(trace)
    reported = next(n for n, c in enumerate(found) if c[0] == "write" and c[1].startswith("1<"))
    assert any(is_sync(call, "popbsmtp.db-wal") for call in found[:reported])


def test_a_login_without_a_recorder_is_acknowledged_after_an_fsync(connected, tmp_path):
    connected.stop()
    # The tracer goes on for as long as the recorder that the login starts.
    with connected.config.open("a") as file:
        file.write('[wrapper]\nlinger = "0"\n')
    trace = tmp_path / "trace"
    command = [
        *traced(trace, "sendto", "write"),
        launcher(),
        "--config",
        str(connected.config),
        "--wait",
        "30",
        *GREETING,
    ]
    ended = session(command, {"IP": "198.51.100.7", "USER": "alice"})
    assert ended.lines == []
    wait_until(lambda: any(is_sync(c, "-wal") for c in calls(trace)), PATIENCE_S, "the fsync")
    found = calls(trace)
    answered = next(n for n, c in enumerate(found) if c[0] == "sendto" and f'"{OK}' in c[1])
    assert any(is_sync(call, "popbsmtp.db-wal") for call in found[:answered])


def test_a_new_database_is_in_its_directory_after_a_crash(tmp_path, connected):
    connected.stop()
    shutil.rmtree(connected.store.parent)
    trace = tmp_path / "trace"
    done = connected.toolkit("init", before=traced(trace, "write"))
    assert done.returncode == 0, done.stderr
    found = calls(trace)
    parents = (connected.store.parent, connected.store.parent.parent)
    for path in (connected.store, *parents):
        assert any(is_sync(call, f"<{path}") for call in found), path


def test_a_recorder_follows_a_database_that_is_made_anew(recorder):
    assert recorder.login("198.51.100.7")[0] == "OK"
    remove(recorder)
    assert recorder.toolkit("init").returncode == 0
    assert recorder.login("198.51.100.8")[0] == "OK"
    assert recorder.rows().keys() == {"198.51.100.8"}
    assert recorder.events("database_replaced")


def test_an_address_is_written_again_to_a_database_that_was_made_anew():
    with Recorder(recorder='refresh = "10m"') as recorder:
        assert recorder.login("198.51.100.7")[0] == "OK"
        remove(recorder)
        assert recorder.toolkit("init").returncode == 0
        assert recorder.login("198.51.100.8")[0] == "OK"
        assert recorder.login("198.51.100.7")[0] == "OK"
        settle(recorder)
        assert recorder.rows().keys() == {"198.51.100.7", "198.51.100.8"}


def test_logins_wait_in_the_spool_while_there_is_no_database(recorder):
    assert recorder.login("198.51.100.7")[0] == "OK"
    remove(recorder)
    assert recorder.login("198.51.100.8")[0] == "OK"
    found = recorder.status()
    assert found["database"]["state"] == "down"
    assert "run: popbsmtp init" in found["database"]["error"]
    assert found["spool"]["logins"] == 1
    assert recorder.toolkit("init").returncode == 0
    wait_until(lambda: recorder.status()["database"]["state"] == "up", PATIENCE_S, "the database")
    settle(recorder)
    assert recorder.rows().keys() == {"198.51.100.8"}


def test_the_status_says_at_once_that_the_database_is_gone(recorder):
    assert recorder.login("198.51.100.7")[0] == "OK"
    assert recorder.status()["database"]["state"] == "up"
    remove(recorder)
    found = recorder.status()
    assert found["database"]["state"] == "down"
    assert "run: popbsmtp init" in found["database"]["error"]


def test_doctor_fails_where_the_recorder_writes_to_another_database(recorder):
    other = recorder.home / "other.toml"
    text = recorder.config.read_text().replace("popbsmtp.db", "other.db")
    other.write_text(text)
    recorder.config.rename(recorder.home / "first.toml")
    other.rename(recorder.config)
    assert recorder.toolkit("init").returncode == 0
    done = recorder.toolkit("doctor")
    wrong = [line for line in done.stdout.splitlines() if "the recorder writes to" in line]
    assert len(wrong) == 1, done.stdout
    assert wrong[0].startswith("FAIL")


def test_nothing_acknowledged_is_lost_while_the_database_is_replaced_again_and_again(recorder):
    acknowledged = set()
    for number in range(40):
        if number % 4 == 0:
            aside = recorder.store.parent.with_name(f"aside{number}")
            made = recorder.store.parent.with_name("made")
            made.mkdir()
            with (
                closing(sqlite3.connect(recorder.store)) as live,
                closing(sqlite3.connect(made / recorder.store.name)) as copy,
            ):
                live.backup(copy)
            recorder.store.parent.rename(aside)
            time.sleep(0.01 * (number % 3))
            made.rename(recorder.store.parent)
        if recorder.login(f"203.0.113.{number}")[0] == "OK":
            acknowledged.add(f"203.0.113.{number}")
    settle(recorder)
    assert len(acknowledged) == 40
    assert acknowledged <= recorder.rows().keys()
