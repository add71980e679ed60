"""put() keeps one login safe without a lock, beside all others who do the same."""

import os
import resource
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.spool.append import Appender, put
from popbsmtp_wrap.spool.directory import depth, lock
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.spool.waiting import (
    SECOND_NS,
    SIZE,
    drained,
    drained_numbers,
    in_child,
    killed_at_every_step,
    login,
    segments,
    small_disk,
    stamped,
    system_calls,
)

STRANGER = 54325
OTHER_STRANGER = 54326


def put_number(path, number, size=SIZE):
    put(str(path), size, login(number), Stamp.now())


def put_many(path, count, first=0):
    for number in range(first, first + count):
        put_number(path, number)


def test_login_comes_out_as_old_as_it_is(path):
    now = Stamp.now()
    before = now._replace(boot_ns=now.boot_ns - 100 * SECOND_NS)
    put(str(path), SIZE, login(1), before)
    (one,) = drained(path).logins
    assert 100 <= one.age_s <= 110
    assert os.listdir(path) == []


def test_process_that_puts_needs_no_lock(path, spool):
    appender = Appender(spool)
    appender.append(stamped(1))
    put_number(path, 2)
    appender.append(stamped(3))
    appender.close_segment()
    spool.close()
    assert drained_numbers(path) == [1, 3, 2]


def test_two_puts_in_the_same_nanosecond_are_two_logins(path, monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    put_number(path, 1)
    put_number(path, 2)
    monkeypatch.undo()
    assert len(segments(path)) == 2
    assert drained_numbers(path) == [1, 2]


def test_many_processes_put_at_once_and_none_is_lost(path):
    def work(worker):
        return in_child(lambda: put_many(path, 50, worker * 100))

    with ThreadPoolExecutor(8) as workers:
        assert list(workers.map(work, range(8))) == [0] * 8
    expected = [worker * 100 + n for worker in range(8) for n in range(50)]
    assert depth(str(path)).records == 400
    assert sorted(drained_numbers(path)) == expected


def test_drain_beside_processes_that_put_takes_each_once(path):
    def work(worker):
        return in_child(lambda: put_many(path, 50, worker * 100))

    numbers = []
    with ThreadPoolExecutor(4) as workers:
        ends = [workers.submit(work, worker) for worker in range(4)]
        while not all(end.done() for end in ends):
            numbers += drained_numbers(path)
    numbers += drained_numbers(path)
    assert [end.result() for end in ends] == [0] * 4
    assert sorted(numbers) == [worker * 100 + n for worker in range(4) for n in range(50)]


def test_kill_between_any_two_steps_leaves_the_login_or_nothing(path):
    for step in killed_at_every_step(lambda: put_number(path, 1)):
        numbers = drained_numbers(path)
        assert numbers in ([], [1])
        for left in path.iterdir():
            assert left.suffix == ".tmp", step
            left.unlink()
    assert step > 10
    assert numbers == [1]


def test_login_is_on_disk_before_it_gets_its_name_and_its_name_before_put_returns(path):
    calls = system_calls(lambda: put_number(path, 1))
    order = [call for call in calls if call in {"write", "fsync", "link", "unlink"}]
    assert order == ["write", "fsync", "link", "unlink", "fsync"]


def test_size_is_not_exceeded(path):
    size = 64 << 10
    for number in range(16):
        put_number(path, number, size)
    with pytest.raises(SpoolError, match=r"holds 65536 of 65536 bytes \(recorder.spool_size\)"):
        put_number(path, 16, size)
    assert drained_numbers(path) == list(range(16))
    put_number(path, 17, size)


def test_full_disk_leaves_nothing_behind():
    with small_disk("64k") as path:
        with pytest.raises(SpoolError, match="No space left on device; make room"):
            put_many(path, 100)
        count = len(list(path.iterdir()))
        assert count > 10
        assert drained_numbers(path) == list(range(count))


def test_limit_of_file_sizes_leaves_nothing_behind(path):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (50, 50))
        with pytest.raises(SpoolError, match="File too large"):
            put_number(path, 1)

    assert in_child(work) == 0
    assert os.listdir(path) == []


def test_read_only_file_system_is_named():
    with small_disk("64k") as path:
        subprocess.run(["mount", "-o", "remount,ro", path], check=True)
        with pytest.raises(SpoolError, match="Read-only file system; mount its"):
            put_number(path, 1)


def test_missing_directory_is_not_created(path):
    with pytest.raises(SpoolError, match="create it: install -d -m 0700 -o popbsmtp"):
        put_number(path / "gone", 1)
    assert os.listdir(path) == []


def test_file_in_the_place_of_the_directory_is_named(path):
    (path / "file").write_text("")
    with pytest.raises(SpoolError, match="Not a directory"):
        put_number(path / "file", 1)


def test_what_root_puts_belongs_to_the_owner_of_the_directory(path):
    os.chown(path, STRANGER, OTHER_STRANGER)
    put_number(path, 1)
    status = segments(path)[0].stat()
    assert (status.st_uid, status.st_gid) == (STRANGER, OTHER_STRANGER)
    assert stat.S_IMODE(status.st_mode) == 0o640


def test_every_user_who_may_write_there_may_put(path):
    """A directory of mode 3770 and a group for all who record, as for mail users of their own."""
    os.chown(path, STRANGER, STRANGER)
    path.chmod(0o3770)

    def put_as(user, number):
        def work():
            os.setgroups([STRANGER])
            os.setgid(user)
            os.setuid(user)
            os.umask(0o077)
            put_number(path, number)

        return in_child(work)

    def drain():
        os.setgroups([])
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        assert drained_numbers(path) == [1, 2]

    assert put_as(OTHER_STRANGER, 1) == 0
    assert put_as(OTHER_STRANGER + 1, 2) == 0
    assert in_child(drain) == 0
    assert os.listdir(path) == []


def test_user_who_may_not_write_there_is_told(path):
    def work():
        os.setuid(STRANGER)
        with pytest.raises(SpoolError, match="Permission denied; it has to belong to the user who"):
            put_number(path, 1)

    assert in_child(work) == 0
    assert os.listdir(path) == []


def test_put_does_not_wait_for_the_lock_of_a_recorder(path):
    with lock(str(path), SIZE):
        assert in_child(lambda: put_number(path, 1)) == 0
    assert drained_numbers(path) == [1]
