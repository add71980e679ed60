"""popbsmtp watch: files that grow, are rotated, truncated, or not there; and kill -9."""

import os
import random
import shutil
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import Watch, append, dovecot, rows, seen_ago


@pytest.fixture(scope="module")
def shared():
    with Recorder() as made:
        yield made


@pytest.fixture
def recorder(shared):
    shared.empty()
    return shared


@pytest.fixture
def watch(recorder):
    with Watch(recorder) as made:
        yield made


def test_a_login_that_is_logged_is_recorded(watch):
    append(watch.log, dovecot("198.51.100.7"))
    watch.wait_for_rows({"198.51.100.7"})
    assert watch.recorder.rows() == {"198.51.100.7": "alice"}


def test_a_line_counts_when_its_end_is_there(watch):
    line = dovecot("198.51.100.71")
    cut = line.index("98.51.100.71") + len("98.51.100.7")
    with watch.log.open("a", buffering=1) as file:
        file.write(line[:cut])
        file.flush()
        append(other := watch.home / "other", "")
        assert other.exists()
        time.sleep(1)
        assert rows(watch.recorder) == {}
        file.write(line[cut:] + "\n")
        file.flush()
        watch.wait_for_rows({"198.51.100.71"})
    assert set(rows(watch.recorder)) == {"198.51.100.71"}


def test_what_is_no_text_or_too_long_costs_only_itself(watch):
    long = dovecot("198.51.100.66") + " " * 5000 + dovecot("198.51.100.67")
    lines = [b"\xff\xfe\x00", long, b"\0" * 300_000 + dovecot("198.51.100.8").encode()]
    append(watch.log, *lines, b"x" * 500_000, dovecot("198.51.100.9"))
    watch.wait_for_rows({"198.51.100.8", "198.51.100.9"})
    assert set(rows(watch.recorder)) == {"198.51.100.8", "198.51.100.9"}


def test_at_the_first_start_logins_of_the_last_grace_count_from_their_own_time(recorder):
    watch = Watch(recorder)
    append(watch.log, dovecot("198.51.100.1", ago_s=1801), dovecot("198.51.100.2", ago_s=1700))
    append(watch.log, dovecot("198.51.100.3", ago_s=5))
    with watch:
        watch.wait_for_rows({"198.51.100.2", "198.51.100.3"})
        assert 1700 <= seen_ago(recorder, "198.51.100.2") <= 1703 + PATIENCE_S
        append(watch.log, dovecot("198.51.100.4"))
        watch.wait_for_rows({"198.51.100.4"})
        assert "198.51.100.1" not in rows(recorder)


def test_a_line_from_the_future_or_an_old_one_is_not_recorded(watch):
    append(
        watch.log,
        dovecot("198.51.100.1", ago_s=-120),
        dovecot("198.51.100.2", ago_s=3600),
        dovecot("198.51.100.3", stamp="2099-01-01T00:00:00Z"),
        dovecot("198.51.100.4", ago_s=-30),
    )
    watch.wait_for_rows({"198.51.100.4"})
    assert set(rows(watch.recorder)) == {"198.51.100.4"}
    assert rows(watch.recorder)["198.51.100.4"] <= time.time()


def test_a_line_without_a_time_counts_only_if_it_was_written_while_we_watched(recorder):
    bare = "imap-login: Info: Login: user=<u>, method=PLAIN, rip={}, lip=192.0.2.1, TLS"
    watch = Watch(recorder)
    append(watch.log, bare.format("198.51.100.1"), dovecot("198.51.100.2"))
    with watch:
        watch.wait_for_rows({"198.51.100.2"})
        append(watch.log, bare.format("198.51.100.3"))
        watch.wait_for_rows({"198.51.100.3"})
    append(watch.log, bare.format("198.51.100.4"), dovecot("198.51.100.5"))
    with watch:
        watch.wait_for_rows({"198.51.100.5"})
    assert set(rows(recorder)) == {f"198.51.100.{last}" for last in (2, 3, 5)}


def test_a_renamed_log_is_read_to_its_end_and_the_new_one_from_its_beginning(watch):
    append(watch.log, dovecot("198.51.100.1"))
    with watch.log.open("a") as before:
        watch.rotate()
        append(watch.log, dovecot("198.51.100.2"))
        watch.wait_for_rows({"198.51.100.1", "198.51.100.2"})
        # Until it is told to, a syslog daemon goes on with the old one.
        before.write(dovecot("198.51.100.3") + "\n")
    watch.wait_for_rows({"198.51.100.3"})


def test_a_truncated_log_is_read_from_its_beginning(watch):
    for number in range(1, 5):
        append(watch.log, dovecot(f"198.51.100.{number}"))
        watch.copy_and_truncate()
        append(watch.log, dovecot(f"203.0.113.{number}"))
        watch.wait_for_rows({f"198.51.100.{number}", f"203.0.113.{number}"})


def test_a_truncated_log_that_is_longer_again_at_once_is_noticed(watch):
    append(watch.log, dovecot("198.51.100.1"))
    watch.wait_for_rows({"198.51.100.1"})
    lines = [dovecot(f"203.0.113.{number}") for number in range(200)]
    os.truncate(watch.log, 0)
    append(watch.log, *lines)
    watch.wait_for_rows({f"203.0.113.{number}" for number in range(200)})


def test_a_log_may_come_later_vanish_and_come_back(watch):
    watch.wait_for_event("no_file")
    append(watch.log, dovecot("198.51.100.1"))
    watch.wait_for_rows({"198.51.100.1"})
    watch.log.unlink()
    watch.wait_for_event("no_file", 2)
    append(watch.log, dovecot("198.51.100.2"))
    watch.wait_for_rows({"198.51.100.2"})
    watch.wait_for_event("file_back", 2)


def test_a_restart_goes_on_where_the_end_was(watch):
    append(watch.log, dovecot("198.51.100.1"))
    watch.wait_for_rows({"198.51.100.1"})
    watch.stop()
    assert watch.exit_status == 0
    assert watch.recorder.toolkit("revoke", "198.51.100.1").returncode == 0
    append(watch.log, dovecot("198.51.100.2", ago_s=60))
    watch.start()
    watch.wait_for_rows({"198.51.100.2"})
    # What was done with is not read again: it stays revoked.
    assert set(rows(watch.recorder)) == {"198.51.100.2"}
    assert 60 <= seen_ago(watch.recorder, "198.51.100.2") <= 63 + PATIENCE_S


def test_what_was_rotated_while_nobody_watched_is_found(watch):
    append(watch.log, dovecot("198.51.100.1"))
    watch.wait_for_rows({"198.51.100.1"})
    watch.kill()
    append(watch.log, dovecot("198.51.100.2"))
    for number in (3, 4, 5):
        watch.rotate()
        append(watch.log, dovecot(f"198.51.100.{number}"))
    watch.start()
    watch.wait_for_rows({f"198.51.100.{number}" for number in range(1, 6)})


def test_a_state_that_is_damaged_means_a_first_start(watch):
    append(watch.log, dovecot("198.51.100.1", ago_s=2000), dovecot("198.51.100.2", ago_s=20))
    watch.wait_for_rows({"198.51.100.2"})
    watch.stop()
    for text in ('{"version": 1, "files": {', '{"version": 1, "files": {"x": [{}]}}'):
        (watch.state / "position.json").write_text(text)
        watch.recorder.empty()
        watch.start()
        watch.wait_for_rows({"198.51.100.2"})
        assert set(rows(watch.recorder)) == {"198.51.100.2"}
        watch.stop()


def test_rotation_under_load_with_kill_9_loses_no_login_and_renews_none(watch):
    chance = random.Random(4)
    written = {}
    for round_ in range(40):
        for _ in range(chance.randrange(1, 40)):
            number = len(written)
            address = f"198.51.{number // 250}.{number % 250 + 1}"
            ago_s = chance.choice([0, 0, 0, 100, 1000])
            written[address] = time.time() - ago_s
            append(watch.log, dovecot(address, ago_s=ago_s))
        if chance.random() < 0.4:
            watch.rotate()
            if chance.random() < 0.5:
                append(watch.log, "the new one")
        elif chance.random() < 0.2:
            watch.copy_and_truncate()
        if round_ % 8 == 3:
            watch.kill()
        elif not watch.running and chance.random() < 0.6:
            watch.start()
        time.sleep(chance.random() * 0.1)
    if not watch.running:
        watch.start()
    append(watch.log, dovecot("203.0.113.1"))
    watch.wait_for_rows({"203.0.113.1"})
    watch.wait_for_rows(set(written))
    recorded = rows(watch.recorder)
    # Each at its own time. The line has whole seconds, and so has the database; the age is rounded
    # up by the watcher, and by a recorder that reads it late.
    off_s = {a: recorded[a] - then for a, then in written.items()}
    assert {a: s for a, s in off_s.items() if not -4 <= s <= 0.001} == {}


def test_without_recorder_and_spool_logins_wait_and_then_go_to_the_spool(tmp_path):
    with Recorder(tmp_path) as recorder, Watch(recorder) as watch:
        recorder.stop()
        spool = recorder.spool.rename(recorder.home / "away")
        append(watch.log, dovecot("198.51.100.1", ago_s=100))
        watch.wait_for_event("spool_failed")
        # Nobody has taken it: the position is before it.
        watch.kill()
        spool.rename(recorder.spool)
        watch.start()
        watch.wait_for_event("spooled")
        recorder.start()
        watch.wait_for_rows({"198.51.100.1"})
        assert 100 <= seen_ago(recorder, "198.51.100.1") <= 103 + PATIENCE_S

        def logins_go_to_the_recorder_again():
            append(watch.log, dovecot("198.51.100.2"))
            return bool(watch.events("recorder_back"))

        wait_until(logins_go_to_the_recorder_again, PATIENCE_S, "the recorder")
        watch.wait_for_rows({"198.51.100.2"})


def test_a_login_that_the_table_refuses_holds_up_no_other(tmp_path):
    with Recorder(tmp_path) as recorder, Watch(recorder) as watch:
        with closing(sqlite3.connect(recorder.store)) as database:
            database.execute(
                "CREATE TRIGGER no_guests BEFORE INSERT ON popbsmtp WHEN NEW.username = 'guest'"
                " BEGIN SELECT RAISE(ABORT, 'no guests'); END"
            )
        append(watch.log, dovecot("198.51.100.66", user="guest"))
        watch.wait_for_event("refused")
        assert "no guests" in watch.events("refused")[0]["error"]
        append(watch.log, dovecot("198.51.100.1"), dovecot("198.51.100.2"))
        watch.wait_for_rows({"198.51.100.1", "198.51.100.2"})
        # The recorder refused it: it was there all the time.
        assert watch.events("recorder_away") == []


def test_two_logs_are_followed_at_once(recorder):
    watch = Watch(recorder)
    second = watch.home / "second.log"
    watch.arguments.append(str(second))
    with watch:
        append(second, dovecot("198.51.100.1"))
        append(watch.log, dovecot("198.51.100.2"))
        watch.wait_for_rows({"198.51.100.1", "198.51.100.2"})
        wait_until((watch.state / "position.json").exists, PATIENCE_S, "the position")


def test_a_revoked_address_stays_out_when_the_watcher_starts_for_the_first_time(recorder):
    with Watch(recorder) as watch:
        watch.stop()
        shutil.rmtree(watch.state)
        append(watch.log, *(dovecot(f"198.51.100.{n}", ago_s=20) for n in (1, 2)))
        assert recorder.toolkit("revoke", "198.51.100.1").returncode == 0
        watch.start()
        watch.wait_for_rows({"198.51.100.2"})
        # The lines of one file are delivered in their order of reading, both before this one.
        append(watch.log, dovecot("198.51.100.3"))
        watch.wait_for_rows({"198.51.100.3"})
        assert set(rows(recorder)) == {"198.51.100.2", "198.51.100.3"}


@pytest.mark.parametrize("stamp", ["%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"])
def test_a_revoked_address_stays_out_after_kill_9_of_the_watcher(watch, stamp):
    for number in range(1, 7):
        address = f"198.51.100.{number}"
        append(watch.log, dovecot(address, stamp=f"{datetime.now(UTC):{stamp}}"))
        watch.wait_for_rows({address})
        # What was read within the last second is read again.
        watch.kill()
        assert watch.recorder.toolkit("revoke", address).stdout == "1\n"
        watch.start()
        witness = f"198.51.100.{100 + number}"
        append(watch.log, dovecot(witness))
        watch.wait_for_rows({witness})
        assert address not in rows(watch.recorder)


def test_a_line_that_was_written_before_the_revoke_and_is_read_after_it_does_not_count(watch):
    append(watch.log, dovecot("198.51.100.9"))
    watch.wait_for_rows({"198.51.100.9"})
    watch.pause()
    try:
        append(watch.log, dovecot("198.51.100.1"), dovecot("198.51.100.9"))
        for address in ("198.51.100.1", "198.51.100.9"):
            assert watch.recorder.toolkit("revoke", address).returncode == 0
    finally:
        watch.resume()
    append(watch.log, dovecot("198.51.100.2"))
    watch.wait_for_rows({"198.51.100.2"})
    assert set(rows(watch.recorder)) == {"198.51.100.2"}
    # Ages are whole seconds: three seconds after the revoke a login counts for sure.
    time.sleep(3)
    append(watch.log, dovecot("198.51.100.1"))
    watch.wait_for_rows({"198.51.100.1"})
