"""One recorder per spool; a directory that its owner alone may enter."""

import os
import stat
import subprocess
import sys

import pytest

from popbsmtp_wrap.errors import ConfigError, SpoolBusyError, SpoolError
from popbsmtp_wrap.spool.append import Appender, put
from popbsmtp_wrap.spool.directory import Depth, depth, lock, prepare
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.spool.waiting import SIZE, in_child, login, stamped

STRANGER = 54329


def test_spool_is_for_one_process(path):
    with lock(str(path), SIZE):
        with pytest.raises(SpoolBusyError, match=f"another recorder or flush uses the .* {path}"):
            lock(str(path), SIZE)

        def work():
            with pytest.raises(SpoolBusyError):
                lock(str(path), SIZE)

        assert in_child(work) == 0
    lock(str(path), SIZE).close()


def test_killed_recorder_leaves_the_spool_free(path):
    code = (
        "import sys, time; from popbsmtp_wrap.spool.directory import lock;"
        "held = lock(sys.argv[1], 65536); print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(SpoolBusyError):
            lock(str(path), SIZE)
        process.kill()
    lock(str(path), SIZE).close()


def test_program_that_is_started_does_not_keep_the_lock(path):
    with lock(str(path), SIZE):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        lock(str(path), SIZE).close()
    finally:
        child.kill()
        child.wait()


def test_reader_of_the_directory_may_lock_it(path):
    def work():
        os.setuid(STRANGER)
        lock(str(path), SIZE).close()

    assert path.stat().st_uid == 0
    assert in_child(work) == 0


@pytest.mark.parametrize("kind", ["missing", "file", "closed"])
def test_spool_that_cannot_be_opened_is_named(path, kind):
    place = path / "spool"
    if kind == "file":
        place.write_text("")
    elif kind == "closed":
        place.mkdir(mode=0o700)

    def work():
        os.setuid(STRANGER)
        for use in (lambda: lock(str(place), SIZE), lambda: depth(str(place))):
            with pytest.raises(SpoolError, match=f"spool {place}: ") as caught:
                use()
            assert not isinstance(caught.value, SpoolBusyError)
            assert caught.value.exit_code == 75

    assert in_child(work) == 0


def test_depth_counts_records_and_bytes_of_all_segments(path, spool):
    assert depth(str(path)) == Depth(0, 0, 0)
    Appender(spool).append(stamped(*range(1000)))
    put(str(path), SIZE, login(1), Stamp.now())
    (path / f"{1:020d}-1.spool.bad").write_bytes(b"bad\n")
    (path / f"{1:020d}-1.tmp").write_bytes(b"x\n")
    (path / "other").write_bytes(b"x\n")
    size = sum(one.stat().st_size for one in path.glob("*.spool"))
    assert depth(str(path)) == Depth(1001, size, 1)


def test_directory_is_created_for_its_owner_alone(path):
    place = path / "spool"
    for _ in range(2):
        prepare(str(place), "nobody")
        status = place.stat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert place.owner() == "nobody"


def test_directory_is_closed_whatever_the_umask(path):
    old = os.umask(0)
    try:
        prepare(str(path / "spool"))
    finally:
        os.umask(old)
    assert stat.S_IMODE((path / "spool").stat().st_mode) == 0o700
    assert (path / "spool").owner() == "root"


def test_directory_of_the_administrator_stays_as_it_is(path):
    place = path / "spool"
    place.mkdir()
    place.chmod(0o2770)
    prepare(str(place), "nobody")
    assert stat.S_IMODE(place.stat().st_mode) == 0o2770
    assert place.owner() == "root"


def test_directory_that_was_left_half_made_is_given_away(path):
    place = path / "spool"
    place.mkdir(mode=0o700)
    prepare(str(place), "nobody")
    assert place.owner() == "nobody"


def test_user_creates_a_directory_of_his_own(path):
    path.chmod(0o777)

    def work():
        os.setuid(STRANGER)
        prepare(str(path / "spool"), "nobody")

    assert in_child(work) == 0
    assert (path / "spool").stat().st_uid == STRANGER


def test_directory_that_cannot_be_created_is_named(path):
    with pytest.raises(ConfigError, match="no user 'nosuchuser'"):
        prepare(str(path / "spool"), "nosuchuser")
    with pytest.raises(SpoolError, match="No such file or directory"):
        prepare(str(path / "gone" / "spool"), "nobody")
    assert os.listdir(path) == []
