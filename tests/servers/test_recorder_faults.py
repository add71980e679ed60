"""What was acknowledged is in the table at the end, whatever dies, hangs or fills up."""

import json
import os
import random
import subprocess
import time
from contextlib import contextmanager, suppress
from datetime import datetime

import pytest

from tests.harness.directories import public_directory
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.servers.recorder_load import Load, next_address, settle
from tests.servers.recorder_place import Recorder

# From listening to the first accept(), on a busy machine.
START_S = 3.0


@pytest.fixture(scope="module", params=[Postgres, MariaDB], ids=["postgresql", "mariadb"])
def database(request):
    with request.param(public_directory()) as server:
        server.create_database("mail")
        yield server


@pytest.fixture
def recorder(database):
    with Recorder(url=database.url("mail")) as running:
        yield running


def seen(recorder):
    """The addresses in the table, and when each was last seen."""
    listed = recorder.toolkit("list", "--json")
    assert listed.returncode == 0, listed.stderr
    return {
        row["address"]: datetime.fromisoformat(row["last_seen"]).timestamp()
        for row in json.loads(listed.stdout)
    }


def assert_kept(load, recorder, least):
    """Everything acknowledged is in the table, every session opened, and there was a load."""
    settle(recorder)
    rows = seen(recorder)
    missing = load.acknowledged.keys() - rows.keys()
    assert not missing, f"{len(missing)} of {len(load.acknowledged)} are lost"
    assert load.failed == []
    assert load.opened > 0
    assert len(load.acknowledged) >= least
    return rows


def assert_right_to_the_second(load, rows, later_s=0.0):
    # Whole seconds in MariaDB, and an age that is rounded up: a second earlier at most. What stood
    # in the queue of a recorder that was starting may have been there since it listens. On a busy
    # machine a client takes seconds from its start to its login, so its answer is the other bound.
    wrong = {
        address: (rows[address] - began, rows[address] - ended)
        for address, (began, ended) in load.acknowledged.items()
        if not began - 2.1 - START_S < rows[address] < ended + 1.1 + later_s
    }
    assert not wrong


@contextmanager
def down(database):
    database.stop()
    try:
        yield
    finally:
        database.start()


def test_sigkill_of_the_recorder_under_load_loses_nothing(recorder):
    with Load(recorder) as load:
        for _ in range(4):
            time.sleep(random.uniform(0.3, 1.0))
            recorder.kill()
            recorder.start()
    assert_kept(load, recorder, 200)


def test_sigkill_of_the_recorder_while_it_spools_loses_nothing(database, recorder):
    with Load(recorder) as load, down(database):
        for _ in range(3):
            time.sleep(random.uniform(0.3, 0.8))
            recorder.kill()
            recorder.start()
        assert recorder.status()["spool"]["logins"] > 0
    rows = assert_kept(load, recorder, 100)
    assert_right_to_the_second(load, rows)


def test_a_restart_of_the_database_under_load_loses_nothing(database, recorder):
    with Load(recorder) as load:
        time.sleep(0.5)
        with down(database):
            time.sleep(3)
        time.sleep(1.5)
    rows = assert_kept(load, recorder, 300)
    assert load.refused == load.unanswered == 0
    assert_right_to_the_second(load, rows)
    assert recorder.status()["spool"]["drained"]["committed"] > 0


def test_a_database_that_is_killed_under_load_loses_nothing(database, recorder):
    with Load(recorder) as load:
        time.sleep(0.5)
        database.kill()
        database.start()
        time.sleep(1)
    assert_kept(load, recorder, 100)
    assert load.refused == load.unanswered == 0


def test_a_database_that_hangs_costs_the_first_logins_a_moment_and_the_others_nothing(
    database, recorder
):
    with Load(recorder) as load:
        time.sleep(0.5)
        database.pause()
        try:
            time.sleep(2)
            waits = []
            for _ in range(20):
                started = time.monotonic()
                assert recorder.login(next_address()) == ("OK", "")
                waits.append(time.monotonic() - started)
            wait_until(lambda: recorder.status()["database"]["state"] == "down", 20, "the outage")
            time.sleep(8)
        finally:
            database.resume()
        time.sleep(1)
    rows = assert_kept(load, recorder, 500)
    assert load.refused == load.unanswered == 0
    # Less than the patience that the first of them needed.
    assert sorted(waits)[len(waits) // 2] < 0.3
    # What the database had got when it was stopped is as old as when it went on.
    assert_right_to_the_second(load, rows, later_s=11)


@pytest.fixture
def small_spool(recorder):
    """A file system of 256 kB in place of the spool directory."""
    recorder.stop()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "none", str(recorder.spool)],
        check=True,
    )
    try:
        recorder.start()
        yield recorder.spool
    finally:
        recorder.kill()
        subprocess.run(["umount", str(recorder.spool)], check=True)


def fill(path):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while os.write(descriptor, bytes(4096)):
            pass
    os.close(descriptor)


def test_a_spool_on_a_full_disk_opens_every_mailbox(database, recorder, small_spool):
    with Load(recorder) as load:
        with down(database):
            time.sleep(1)
            spooled = recorder.status()["spool"]["logins"]
            fill(small_spool / "filler")
            time.sleep(1.5)
            found = recorder.status()
        time.sleep(1)
    assert spooled > 0
    assert "No space left on device" in found["spool"]["error"]
    assert load.refused > 0
    assert load.unanswered == 0
    (small_spool / "filler").unlink()
    assert_kept(load, recorder, 100)


def test_a_spool_that_is_not_writable_opens_every_mailbox(database):
    # Root may write everywhere.
    with Recorder(url=database.url("mail"), becomes="daemon") as recorder:
        os.chmod(recorder.spool, 0o500)
        with Load(recorder) as load:
            with down(database):
                time.sleep(2)
                found = recorder.status()
            time.sleep(1)
        assert "Permission denied" in found["spool"]["error"]
        # Recording processes, as root, spool where the recorder cannot remove.
        os.chmod(recorder.spool, 0o700)
        assert load.refused > 0
        assert load.unanswered == 0
        assert_kept(load, recorder, 50)


def test_logins_that_nobody_takes_are_kept_in_memory_until_the_database_returns(database):
    with Recorder(url=database.url("mail"), recorder="reply_timeout = 0.5") as recorder:
        os.rename(recorder.spool, recorder.home / "elsewhere")
        with down(database):
            address = next_address()
            reply = recorder.dovecot_login(address)
            assert reply == b"alice\thome=/home/alice\n"
            word, reason = recorder.login(next_address())
            assert word == "NO"
            assert f"spool {recorder.spool}: No such file or directory" in reason
        settle(recorder)
        assert address in seen(recorder)
