"""What is revoked while it waits does not come back."""

import os

import pytest

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.spool.append import Appender, put
from popbsmtp_wrap.spool.directory import lock
from popbsmtp_wrap.spool.reader import SpoolReader
from popbsmtp_wrap.spool.record import format_record
from popbsmtp_wrap.spool.remove import remove
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.spool.waiting import (
    GRACE_S,
    SIZE,
    drained,
    drained_numbers,
    fill_disk,
    in_child,
    killed_at_every_step,
    login,
    number_of,
    segments,
    small_disk,
    stamped,
    system_calls,
)

STRANGER = 54328


def addresses(*numbers):
    return {login(number).address for number in numbers}


def fill(spool, *groups):
    appender = Appender(spool)
    for group in groups:
        appender.append(stamped(*group))
        appender.close_segment()


def test_logins_of_an_address_are_taken_and_the_others_stay(path, spool):
    fill(spool, [1, 2, 3, 2], [2], [4, 5])
    put(str(path), SIZE, login(2), Stamp.now())
    assert remove(spool, addresses(2, 5, 99)) == 5
    assert len(segments(path)) == 2
    assert remove(spool, addresses(2, 5, 99)) == 0
    spool.close()
    assert drained_numbers(path) == [1, 3, 4]


def test_all_logins_are_taken(path, spool):
    fill(spool, [1, 2], [3])
    assert remove(spool, None) == 3
    assert os.listdir(path) == []


def test_no_addresses_take_nothing(path, spool):
    fill(spool, [1])
    assert remove(spool, []) == 0
    spool.close()
    assert drained_numbers(path) == [1]


def test_bad_records_are_left_for_the_drain(path, spool):
    stamp = Stamp.now()
    content = [b"bad\n", format_record(login(1), stamp), b"x" * 100_000 + b"\n"]
    name = path / f"{1:020d}-1.spool"
    name.write_bytes(b"".join([*content, format_record(login(2), stamp), b"torn"]))
    assert remove(spool, addresses(1)) == 1
    spool.close()
    whole = drained(path)
    assert [number_of(one) for one in whole.logins] == [2]
    assert whole.bad == 3
    assert (path / f"{name.name}.bad").read_bytes() == content[0] + content[2] + b"torn"


def test_drain_goes_on_after_a_removal(path, spool):
    fill(spool, range(6), [6])
    drain = SpoolReader(spool, GRACE_S, 4)
    drain.chunk()
    drain.commit()
    assert remove(spool, addresses(1, 4)) == 2
    # It begins again: where it was is no longer known.
    assert [number_of(one) for one in drain.chunk().logins] == [0, 2, 3, 5]
    drain.commit()
    assert [number_of(one) for one in drain.chunk().logins] == [6]
    drain.commit()
    assert os.listdir(path) == []


def test_commit_after_a_removal_forgets_nothing(path, spool):
    fill(spool, range(3))
    drain = SpoolReader(spool, GRACE_S, 10)
    drain.chunk()
    assert remove(spool, addresses(0)) == 1
    assert drain.commit() == []
    assert [number_of(one) for one in drain.chunk().logins] == [1, 2]


def test_open_segment_is_not_touched(path, spool):
    appender = Appender(spool)
    appender.append(stamped(1))
    assert remove(spool, None) == 0
    appender.append(stamped(2))
    appender.close_segment()
    spool.close()
    assert drained_numbers(path) == [1, 2]


def test_removal_is_on_disk_before_it_is_reported(spool):
    fill(spool, [1, 2])
    calls = system_calls(lambda: remove(spool, addresses(1)))
    order = [call for call in calls if call in {"write", "fsync", "rename"}]
    assert order == ["write", "fsync", "rename", "fsync"]


def test_kill_between_any_two_steps_costs_no_other_login(path):
    def work():
        with lock(str(path), SIZE) as spool:
            remove(spool, addresses(1, 4))

    def prepare():
        for left in path.iterdir():
            left.unlink()
        with lock(str(path), SIZE) as spool:
            fill(spool, [0, 1, 2], [4], [3, 4])

    prepare()
    for step in killed_at_every_step(work):
        numbers = drained_numbers(path)
        assert [n for n in numbers if n not in {1, 4}] == [0, 2, 3], step
        prepare()
    assert step > 20
    assert numbers == [0, 2, 3]


def test_segment_that_cannot_be_read_is_an_error_and_the_others_are_done(path):
    for number in (1, 2, 3):
        name = path / f"{number:020d}-1.spool"
        name.write_bytes(format_record(login(number), Stamp.now()))
        name.chmod(0o600 if number == 2 else 0o644)
    os.chown(path, STRANGER, STRANGER)

    def work():
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        with lock(str(path), SIZE) as spool, pytest.raises(SpoolError, match="Permission denied"):
            remove(spool, None)

    assert in_child(work) == 0
    assert drained_numbers(path) == [2]


def test_full_disk_is_an_error_and_nothing_is_lost():
    with small_disk("64k") as path, lock(str(path), SIZE) as spool:
        fill(spool, range(100))
        fill_disk(path / "filler")
        with pytest.raises(SpoolError, match="No space left on device"):
            remove(spool, addresses(50))
        assert sorted(os.listdir(path)) == sorted(["filler", segments(path)[0].name])
        (path / "filler").unlink()
        assert remove(spool, addresses(50)) == 1
        spool.close()
        assert drained_numbers(path) == [n for n in range(100) if n != 50]


def test_file_that_root_rewrites_stays_the_owners(path, spool):
    os.chown(path, STRANGER, STRANGER)
    fill(spool, [1, 2])
    remove(spool, addresses(1))
    status = segments(path)[0].stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (STRANGER, STRANGER, 0o640)


@pytest.mark.parametrize("most", [3, 4, 100])
def test_a_drain_that_gives_the_lock_away_loses_nothing_to_a_removal_meanwhile(path, spool, most):
    fill(spool, range(6), range(6, 12))
    drain = SpoolReader(spool, GRACE_S, most)
    came_out = set()
    removed = False
    while (chunk := drain.chunk()) is not None:
        came_out |= {number_of(one) for one in chunk.logins}
        if not removed and len(came_out) >= most:
            removed = True
            spool.unlock()
            # In another process: this one learns of it from the file alone.
            with lock(str(path), SIZE) as other:
                assert remove(other, addresses(0, 1, 8)) == 3
            assert spool.relock()
        assert drain.commit() == []
    assert came_out >= set(range(12)) - {0, 1, 8}
    assert os.listdir(path) == []
