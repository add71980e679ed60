"""What waits comes out once it may, in order, as old as it is; what is no login does not."""

import os
import resource
import time

import pytest

from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.spool.append import Appender, put
from popbsmtp_wrap.spool.directory import depth, lock
from popbsmtp_wrap.spool.files import open_segment
from popbsmtp_wrap.spool.reader import STALE_S, SpoolReader
from popbsmtp_wrap.spool.record import format_record
from popbsmtp_wrap.spool.remove import remove
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.spool.waiting import (
    GRACE_S,
    SECOND_NS,
    SIZE,
    drained,
    drained_numbers,
    in_child,
    killed_at_every_step,
    login,
    number_of,
    segments,
    stamped,
)

STRANGER = 54327
NAME = "01700000000000000000-1.spool"


def record(number, stamp=None):
    return format_record(login(number), stamp or Stamp.now())


def numbers_of(chunk):
    return [number_of(one) for one in chunk.logins]


def fill(spool, *groups):
    """Make a segment of each group of numbers."""
    appender = Appender(spool)
    for group in groups:
        appender.append(stamped(*group))
        appender.close_segment()


def test_chunk_holds_as_many_as_asked_whatever_the_files(path, spool):
    fill(spool, range(5), [5], [6], range(7, 20))
    drain = SpoolReader(spool, GRACE_S, 4)
    found, files = [], []
    while (chunk := drain.chunk()) is not None:
        assert len(chunk.logins) <= 4
        found += numbers_of(chunk)
        assert drain.commit() == []
        files.append(len(segments(path)))
    assert found == list(range(20))
    assert files == [4, 1, 1, 1, 0]


def test_chunk_comes_again_until_it_is_committed(path, spool):
    fill(spool, range(3), range(3, 6))
    drain = SpoolReader(spool, GRACE_S, 4)
    assert numbers_of(drain.chunk()) == [0, 1, 2, 3]
    assert numbers_of(drain.chunk()) == [0, 1, 2, 3]
    assert len(segments(path)) == 2
    drain.commit()
    assert numbers_of(drain.chunk()) == [4, 5]
    assert numbers_of(drain.chunk()) == [4, 5]
    assert len(segments(path)) == 1
    drain.commit()
    assert os.listdir(path) == []
    assert drain.chunk() is None


def test_commit_without_a_chunk_forgets_nothing(path, spool):
    fill(spool, range(3))
    drain = SpoolReader(spool, GRACE_S, 2)
    drain.commit()
    assert numbers_of(drain.chunk()) == [0, 1]
    drain.commit()
    drain.commit()
    assert numbers_of(drain.chunk()) == [2]


def test_drain_begins_anew_after_its_end(path, spool):
    drain = SpoolReader(spool, GRACE_S, 10)
    for number in range(3):
        assert drain.chunk() is None
        fill(spool, [number])
        assert numbers_of(drain.chunk()) == [number]
        drain.commit()
        assert drain.chunk() is None
    assert drain.chunk() is None


def test_another_drain_begins_with_what_was_not_committed(path):
    with lock(str(path), SIZE) as spool:
        fill(spool, range(3), range(3, 6))
        drain = SpoolReader(spool, GRACE_S, 3)
        drain.chunk()
        drain.commit()
        drain.chunk()
    assert drained_numbers(path) == [3, 4, 5]


def test_kill_between_any_two_steps_of_a_drain_loses_nothing(path):
    """Each chunk is "committed" by a line in a file; what was may come twice, never none."""
    done = path.with_name(f"{path.name}.done")

    def work():
        descriptor = os.open(done, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        with lock(str(path), SIZE) as spool:
            drain = SpoolReader(spool, GRACE_S, 2)
            while (chunk := drain.chunk()) is not None:
                os.write(descriptor, "".join(f"{n}\n" for n in numbers_of(chunk)).encode())
                assert drain.commit() == []

    def prepare():
        done.write_text("")
        for bad in path.iterdir():
            bad.unlink()
        with lock(str(path), SIZE) as spool:
            fill(spool, range(3), [3], [4, 5])
        with segments(path)[1].open("ab") as file:
            file.write(b"torn")

    prepare()
    for step in killed_at_every_step(work):
        drained_now = drained(path)
        numbers = {int(line) for line in done.read_text().split()} | set(numbers_of(drained_now))
        assert numbers == set(range(6)), step
        (bad,) = path.iterdir()
        assert set(bad.read_bytes().split(b"torn")) == {b""}, step
        prepare()
    assert step > 30
    done.unlink()


@pytest.mark.parametrize(
    ("waited_s", "age_s"),
    [(0, 7), (0.5, 8), (1, 8), (1792.5, 1800), (1793, 1800), (1793.001, None), (10**6, None)],
)
def test_age_counts_from_the_login_and_ends_at_grace(path, spool, waited_s, age_s):
    stamp = Stamp.now()
    old = Login("192.0.2.1", "alice", None, 7)
    put(str(path), SIZE, old, stamp)
    now = stamp._replace(boot_ns=stamp.boot_ns + int(waited_s * SECOND_NS))
    drain = SpoolReader(spool, GRACE_S, 10)
    chunk = drain.chunk(now)
    assert [one.age_s for one in chunk.logins] == ([] if age_s is None else [age_s])
    assert chunk.expired == (age_s is None)
    assert chunk.records == 1
    assert drain.commit() == []
    assert os.listdir(path) == []


@pytest.mark.parametrize(
    ("ahead_s", "outcome"), [(-5, [5]), (0, [0]), (59, [0]), (60, [0]), (61, []), (10**9, [])]
)
def test_login_of_another_boot_in_the_future_is_dropped_and_counted(path, spool, ahead_s, outcome):
    now = Stamp.now()
    other = Stamp("0" * 36, 10**18, now.wall_ns + ahead_s * SECOND_NS)
    put(str(path), SIZE, login(1), other)
    drain = SpoolReader(spool, GRACE_S, 10)
    chunk = drain.chunk(now)
    assert [one.age_s for one in chunk.logins] == outcome
    assert chunk.untrusted == (not outcome)
    drain.commit()
    assert os.listdir(path) == []


def test_dropped_records_are_forgotten_with_their_chunk(path, spool):
    """A long backlog of old records does not come out in one go either."""
    old = Stamp.now()._replace(boot_ns=0)
    Appender(spool).append([(login(n), old) for n in range(10)])
    spool.being_written.clear()
    now = Stamp.now()._replace(boot_ns=(GRACE_S + 1) * SECOND_NS)
    drain = SpoolReader(spool, GRACE_S, 4)
    counts = []
    while (chunk := drain.chunk(now)) is not None:
        counts.append((len(chunk.logins), chunk.expired))
        drain.commit()
    assert counts == [(0, 4), (0, 4), (0, 2)]


GOOD = record(1)
BAD = {
    "torn at the end": [GOOD, record(2)[:-20]],
    "torn at the beginning": [record(2)[20:], GOOD],
    "a changed byte": [record(2).replace(b"user2", b"user3"), GOOD],
    "two torn together": [record(2)[:-20] + record(3), GOOD],
    "no text": [b"\0" * 5000 + b"\n", GOOD, b"\xff\n\n"],
    "empty lines": [b"\n\n", GOOD, b"\n"],
    "of another program": [b"GET / HTTP/1.1\r\n", GOOD],
    "a network": [GOOD, b"spool/1\t0\t\t1\t1\t0\t127\t\t\n"],
    "endless": [GOOD, b"x" * 10_000_000],
    "endless with an end": [b"x" * 3_000_000 + b"\n", GOOD],
    "one byte too long": [b"x" * 4096 + b"\n", GOOD],
}


@pytest.mark.parametrize("most", [1, 2, 100])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_record_is_set_aside_and_the_rest_is_used(path, kind, most):
    content = b"".join(BAD[kind])
    (path / NAME).write_bytes(content)
    found, bad = [], 0
    with lock(str(path), 64 << 20) as spool:
        drain = SpoolReader(spool, GRACE_S, most)
        while (chunk := drain.chunk()) is not None:
            assert chunk.records <= most
            found += numbers_of(chunk)
            bad += chunk.bad
            assert drain.commit() == []
    assert found == [1]
    assert bad == content.count(b"\n") - 1 + (not content.endswith(b"\n"))
    (aside,) = path.iterdir()
    assert aside.name == f"{NAME}.bad"
    assert aside.read_bytes() == content.replace(GOOD, b"")
    assert aside.stat().st_mode & 0o777 == 0o640
    assert depth(str(path)).bad_files == 1
    assert drained(path).logins == []


def test_more_bad_records_of_a_segment_join_the_others(path):
    (path / f"{NAME}.bad").write_bytes(b"before\n")
    (path / NAME).write_bytes(b"now\n")
    assert drained(path).bad == 1
    assert (path / f"{NAME}.bad").read_bytes() == b"before\nnow\n"


def test_bad_records_beyond_the_size_are_skipped_and_said(path):
    (path / NAME).write_bytes(b"x" * 50_000 + b"\n" + record(1))
    with lock(str(path), 64 << 10) as spool:
        drain = SpoolReader(spool, GRACE_S, 10)
        chunk = drain.chunk()
        assert (numbers_of(chunk), chunk.bad) == ([1], 1)
        (error,) = drain.commit()
    assert error.startswith(f"{NAME}: 1 bad records not kept: spool {path} is full")
    assert os.listdir(path) == []


@pytest.mark.parametrize("kind", ["FIFO", "link", "hard link", "directory"])
def test_bad_records_go_into_nothing_but_a_file(path, kind):
    (path / NAME).write_bytes(b"bad\n" + record(1))
    target = path / "target"
    target.write_text("mine")
    aside = path / f"{NAME}.bad"
    if kind == "FIFO":
        os.mkfifo(aside)
    elif kind == "link":
        aside.symlink_to(target)
    elif kind == "hard link":
        aside.hardlink_to(target)
    else:
        aside.mkdir()
    with lock(str(path), SIZE) as spool:
        drain = SpoolReader(spool, GRACE_S, 10)
        assert numbers_of(drain.chunk()) == [1]
        (error,) = drain.commit()
    assert "not kept" in error
    assert target.read_text() == "mine"


def test_foreign_names_and_kinds_are_left_alone(path):
    names = ["1.spool", NAME.upper(), f"x{NAME}", f"{NAME}.bad", f"{NAME}~", "README", f".{NAME}"]
    for name in names:
        (path / name).write_bytes(record(1))
    (path / "01700000000000000001-1.spool").symlink_to(path / "README")
    os.mkfifo(path / "01700000000000000002-1.spool")
    (path / "01700000000000000003-1.spool").mkdir()
    (path / "01700000000000000004-1.spool").symlink_to("/dev/zero")
    before = sorted(os.listdir(path))
    assert drained_numbers(path) == []
    assert depth(str(path)).records == 0
    with lock(str(path), SIZE) as spool:
        assert remove(spool, None) == 0
    assert sorted(os.listdir(path)) == before
    assert (path / "README").read_bytes().endswith(b"imap\n")


@pytest.mark.parametrize("kind", ["link", "FIFO", "directory"])
def test_name_that_was_replaced_after_it_was_listed_is_not_read(path, kind):
    (path / "target").write_bytes(record(1))
    place = path / NAME
    if kind == "link":
        place.symlink_to(path / "target")
    elif kind == "FIFO":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(OSError, match=r"no regular file|Too many levels of symbolic links"):
        open_segment(str(path), NAME)


def as_stranger(path, work):
    """Run *work* as the owner of *path*, who is not root."""
    os.chown(path, STRANGER, STRANGER)

    def child():
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        work()

    return in_child(child)


def test_unreadable_files_are_said_once_per_pass_and_cost_no_others(path):
    for number in range(3):
        name = path / f"{number:020d}-1.spool"
        name.write_bytes(record(number))
        name.chmod(0o600 if number == 1 else 0o644)

    def work():
        with lock(str(path), SIZE) as spool:
            drain = SpoolReader(spool, GRACE_S, 10)
            for expected in ([0, 2], []):
                chunk = drain.chunk()
                assert numbers_of(chunk) == expected
                assert chunk.errors == [f"{1:020d}-1.spool: cannot be read: Permission denied"]
                assert drain.commit() == []
                assert drain.chunk() is None
        assert depth(str(path)).records == 0
        assert depth(str(path)).bytes >= len(record(1))

    assert as_stranger(path, work) == 0
    assert drained_numbers(path) == [1]


def test_file_that_cannot_be_removed_is_said_and_comes_again(path):
    name = path / NAME
    name.write_bytes(record(1))
    name.chmod(0o644)
    path.chmod(0o1777)

    def work():
        with lock(str(path), SIZE) as spool:
            drain = SpoolReader(spool, GRACE_S, 10)
            for _ in range(2):
                assert numbers_of(drain.chunk()) == [1]
                assert drain.commit() == [f"{NAME}: cannot be removed: Operation not permitted"]
                assert drain.chunk() is None

    def child():
        os.setgid(STRANGER)
        os.setuid(STRANGER)
        work()

    assert in_child(child) == 0


def test_file_that_somebody_removed_is_no_error(path, spool):
    fill(spool, [1], [2])
    drain = SpoolReader(spool, GRACE_S, 1)
    drain.chunk()
    for one in segments(path):
        one.unlink()
    assert drain.commit() == []
    chunk = drain.chunk()
    assert (chunk.records, chunk.errors) == (0, [])
    assert drain.commit() == []
    assert drain.chunk() is None


def test_removed_directory_is_named(path):
    gone = path / "gone"
    gone.mkdir()
    with lock(str(gone), SIZE) as spool:
        gone.rmdir()
        with pytest.raises(SpoolError, match="No such file or directory; create it"):
            SpoolReader(spool, GRACE_S, 10).chunk()


def test_temporary_files_of_a_crash_are_removed_after_an_hour(path):
    names = [f"{number:020d}-1.tmp" for number in range(3)]
    for name, age_s in zip(names, [STALE_S + 5, STALE_S - 5, 0], strict=True):
        (path / name).write_bytes(record(1))
        os.utime(path / name, (time.time() - age_s,) * 2)
    other = path / "other.tmp"
    other.write_text("mine")
    os.utime(other, (0, 0))
    assert drained_numbers(path) == []
    assert sorted(os.listdir(path)) == [*names[1:], "other.tmp"]


def test_file_larger_than_memory_is_drained(path):
    with (path / NAME).open("wb") as file:
        file.write(record(1))
        file.seek(1 << 30)
        file.write(b"\n" + record(2))

    def work():
        resource.setrlimit(resource.RLIMIT_AS, (256 << 20, 256 << 20))
        with lock(str(path), SIZE) as spool:
            drain = SpoolReader(spool, GRACE_S, 10)
            chunk = drain.chunk()
            assert (numbers_of(chunk), chunk.bad) == ([1, 2], 1)
            (error,) = drain.commit()
            assert "full" in error
            assert depth(str(path)).records == 0

    assert in_child(work) == 0
