"""What append() has returned for comes out of the spool, whatever happens to disk and process."""

import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.spool.append import LONGEST_SEGMENT, Appender
from popbsmtp_wrap.spool.directory import depth, lock
from popbsmtp_wrap.spool.reader import SpoolReader
from tests.spool.waiting import (
    GRACE_S,
    SIZE,
    drained,
    drained_numbers,
    in_child,
    killed_at_every_step,
    number_of,
    segments,
    small_disk,
    stamped,
    system_calls,
)

STRANGER = 54324
# Prints each number as soon as append() has returned for it.
_APPEND_FOR_EVER = """
import itertools, sys
from popbsmtp_wrap.spool.directory import lock
from popbsmtp_wrap.spool.append import Appender
from tests.spool.waiting import SIZE, stamped
appender = Appender(lock(sys.argv[1], SIZE))
for first in itertools.count(0, 3):
    appender.append(stamped(first, first + 1, first + 2))
    sys.stdout.write(f"{first + 2}\\n")
    sys.stdout.flush()
"""


def append_until_it_fails(appender):
    """Return how many were appended, one at a time, and the error."""
    number = 0
    while True:
        try:
            appender.append(stamped(number))
        except SpoolError as error:
            return number, str(error)
        number += 1


def test_logins_come_out_in_the_order_they_went_in(path, spool):
    appender = Appender(spool)
    appender.append(stamped(3, 1, 2))
    appender.append(stamped(5))
    appender.close_segment()
    appender.append(stamped(4, 0))
    appender.close_segment()
    assert len(segments(path)) == 2
    spool.close()
    assert drained_numbers(path) == [3, 1, 2, 5, 4, 0]
    assert os.listdir(path) == []


def test_no_file_is_made_before_there_is_a_login(path, spool):
    appender = Appender(spool)
    appender.append([])
    appender.close_segment()
    assert os.listdir(path) == []


def test_segment_is_not_drained_before_it_is_closed(path, spool):
    appender = Appender(spool)
    appender.append(stamped(1))
    drain = SpoolReader(spool, GRACE_S, 10)
    assert drain.chunk() is None
    assert depth(str(path)).records == 1
    appender.close_segment()
    assert [number_of(one) for one in drain.chunk().logins] == [1]
    # And what is begun meanwhile is another one.
    appender.append(stamped(2))
    assert drain.commit() == []
    assert drain.chunk() is None
    assert len(segments(path)) == 1


def test_new_segment_begins_after_a_megabyte(path, spool):
    appender = Appender(spool)
    count = 0
    while len(segments(path)) < 3:
        appender.append(stamped(*range(count, count + 1000)))
        count += 1000
    sizes = [one.stat().st_size for one in segments(path)]
    assert all(LONGEST_SEGMENT <= size < 1.3 * LONGEST_SEGMENT for size in sizes[:2])
    appender.close_segment()
    spool.close()
    assert drained_numbers(path) == list(range(count))


def test_files_are_for_the_owner_and_the_group_alone(path, spool):
    old = os.umask(0)
    try:
        Appender(spool).append(stamped(1))
    finally:
        os.umask(old)
    assert segments(path)[0].stat().st_mode & 0o777 == 0o640


def test_size_is_not_exceeded_and_what_was_there_stays(path):
    size = 64 << 10
    with lock(str(path), size) as spool:
        appender = Appender(spool)
        count, error = append_until_it_fails(appender)
        assert f"of {size} bytes (recorder.spool_size)" in error
        assert sum(one.stat().st_blocks * 512 for one in path.iterdir()) <= size
        assert count > 250
        appender.close_segment()
        drain = SpoolReader(spool, GRACE_S, 10**6)
        assert [number_of(one) for one in drain.chunk().logins] == list(range(count))
        assert drain.commit() == []
        appender.append(stamped(7))
    assert drained_numbers(path) == [7]


def test_files_of_others_count_for_the_size(path):
    size = 64 << 10
    (path / "other").write_bytes(b"x" * (62 << 10))
    with lock(str(path), size) as spool:
        count, error = append_until_it_fails(Appender(spool))
        assert count == 0
        assert "65536 of 65536 bytes" in error


def test_full_disk_loses_nothing_that_was_acknowledged():
    with small_disk("64k") as path:
        with lock(str(path), SIZE) as spool:
            appender = Appender(spool)
            count, error = append_until_it_fails(appender)
            assert "No space left on device; make room" in error
            assert count > 100
            # The segment is sound: nothing of the failed group is left in it.
            (segment,) = segments(path)
            assert segment.read_bytes().count(b"\n") == count
            appender.close_segment()
            assert append_until_it_fails(appender)[0] == 0
        assert drained_numbers(path) == list(range(count))


def test_full_disk_is_used_again_when_there_is_room():
    with small_disk("64k") as path:
        filler = path / "filler"
        filler.write_bytes(b"x" * (32 << 10))
        with lock(str(path), SIZE) as spool:
            appender = Appender(spool)
            first, _ = append_until_it_fails(appender)
            filler.unlink()
            appender.append(stamped(first))
            second, _ = append_until_it_fails(appender)
            appender.close_segment()
        numbers = drained_numbers(path)
        assert numbers == [*range(first + 1), *range(second)]


def test_short_write_leaves_a_sound_segment(path):
    """RLIMIT_FSIZE takes a part of a write, as a disk does that gets full."""
    limit = 10_000

    def append():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with lock(str(path), SIZE) as spool:
            appender = Appender(spool)
            appender.append(stamped(*range(50)))
            with pytest.raises(SpoolError, match="File too large"):
                appender.append(stamped(*range(50, 100)))
            (segment,) = segments(path)
            assert segment.read_bytes().count(b"\n") == 50
            appender.append(stamped(50))

    assert in_child(append) == 0
    assert drained_numbers(path) == list(range(51))


def test_segment_that_cannot_be_mended_is_left_and_another_begun(path):
    """chattr +a lets us append and forbids to truncate."""
    limit = 10_000

    def append():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with lock(str(path), SIZE) as spool:
            appender = Appender(spool)
            appender.append(stamped(*range(50)))
            subprocess.run(["chattr", "+a", segments(path)[0]], check=True)
            with pytest.raises(SpoolError, match="File too large"):
                appender.append(stamped(*range(50, 100)))
            appender.append(stamped(100))

    try:
        assert in_child(append) == 0
        first, second = segments(path)
    finally:
        subprocess.run(["chattr", "-a", *segments(path)], check=True)
    assert first.stat().st_size == limit
    assert second.read_bytes().count(b"\n") == 1
    whole = drained(path)
    numbers = [number_of(one) for one in whole.logins]
    assert numbers[:50] == list(range(50))
    assert numbers[-1] == 100
    assert whole.bad == 1
    (bad,) = path.iterdir()
    assert bad.name == f"{first.name}.bad"


def test_emptied_directory_gets_a_new_segment(path, spool):
    appender = Appender(spool)
    appender.append(stamped(1))
    segments(path)[0].unlink()
    appender.append(stamped(2))
    appender.close_segment()
    spool.close()
    assert drained_numbers(path) == [2]


def test_missing_directory_is_named_with_what_to_type(path):
    gone = path / "gone"
    gone.mkdir()
    with lock(str(gone), SIZE) as spool:
        appender = Appender(spool)
        gone.rmdir()
        with pytest.raises(SpoolError, match=f"No such file.*; create it: install -d .* {gone}"):
            appender.append(stamped(1))
        gone.mkdir()
        appender.append(stamped(1))
    assert drained_numbers(gone) == [1]


def test_read_only_file_system_is_named():
    with small_disk("64k") as path:
        subprocess.run(["mount", "-o", "remount,ro", path], check=True)
        with lock(str(path), SIZE) as spool, pytest.raises(SpoolError, match="Read-only file sys"):
            Appender(spool).append(stamped(1))


def test_directory_that_may_not_be_written_is_named(path):
    def append():
        os.setuid(STRANGER)
        with lock(str(path), SIZE) as spool, pytest.raises(SpoolError, match="has to belong to"):
            Appender(spool).append(stamped(1))

    assert in_child(append) == 0


def test_group_is_on_disk_before_append_returns(spool):
    """A test cannot cut the power: it sees that the disk was waited for, and after what."""
    appender = Appender(spool)
    first = [
        call
        for call in system_calls(lambda: appender.append(stamped(1, 2, 3)))
        if call in {"open", "write", "fsync", "fdatasync"}
    ]
    # The segment, its directory, the group.
    assert first == ["open", "open", "fsync", "write", "fdatasync"]
    later = system_calls(lambda: appender.append(stamped(4, 5)))
    assert [call for call in later if call not in {"scandir", "lstat"}] == [
        "write",
        "fdatasync",
        "fstat",
    ]


@pytest.mark.parametrize("seed", range(8))
def test_killed_process_loses_nothing_that_append_returned_for(path, seed):
    command = [sys.executable, "-c", _APPEND_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"2\n"
        time.sleep(random.Random(seed).uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
    acknowledged = int(said[-1]) if said else 2
    # A kill may cut the write that is under way.
    numbers = drained_numbers(path, torn=1)
    assert numbers == list(range(len(numbers)))
    # The group that was under way may be there; another one cannot.
    assert acknowledged + 1 <= len(numbers) <= acknowledged + 4


def test_kill_between_any_two_steps_loses_nothing(path):
    said = path.with_name(f"{path.name}.said")

    def append():
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with lock(str(path), SIZE) as spool:
            appender = Appender(spool)
            for first in (0, 2):
                appender.append(stamped(first, first + 1))
                os.write(descriptor, b"xx")
            appender.close_segment()
            appender.append(stamped(4))
            os.write(descriptor, b"x")

    said.touch()
    for step in killed_at_every_step(append):
        numbers = drained_numbers(path)
        assert numbers == list(range(len(numbers))), step
        assert len(numbers) >= said.stat().st_size, step
        said.write_bytes(b"")
    assert step > 20
    assert numbers == [0, 1, 2, 3, 4]
    said.unlink()
