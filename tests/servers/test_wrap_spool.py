"""A login that the database does not take waits on disk, and is right when it comes."""

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.spool.directory import depth, lock
from popbsmtp_wrap.spool.reader import SpoolReader
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.upsert import record
from tests.harness.directories import public_directory
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.servers.wrap_databases import FilePlace, cleaned, started
from tests.servers.wrap_fixtures import (
    GREETING,
    LOGIN,
    RECORDED,
    SLACK_S,
    end_recorders,
    recording_processes,
    session,
)

# Nobody's.
STRANGER = 54330
OTHER_STRANGER = 54331


@pytest.fixture(scope="module")
def postgres():
    yield from started(Postgres)


@pytest.fixture(scope="module")
def mariadb():
    yield from started(MariaDB)


@pytest.fixture
def on_postgres(postgres):
    yield from cleaned(postgres)


@pytest.fixture
def on_sqlite():
    place = FilePlace(public_directory())
    yield place
    end_recorders(place.config)


@pytest.fixture(params=["postgres", "mariadb", "sqlite"])
def place(request):
    if request.param == "sqlite":
        yield request.getfixturevalue("on_sqlite")
    else:
        yield from cleaned(request.getfixturevalue(request.param))


def waiting(place):
    """Return the files in the spool."""
    return sorted(place.spool.glob("*.spool"))


def drain(place):
    """Record what waits in the spool; return how many logins it was."""
    settings = config.load(str(place.config))
    store, count = open_store(settings.database), 0
    with lock(settings.recorder.spool, settings.recorder.spool_size) as spool:
        logins = SpoolReader(spool, settings.grace, 10)
        while (chunk := logins.chunk()) is not None:
            for login in chunk.logins:
                record(store, login)
            assert (chunk.expired, chunk.untrusted, chunk.bad, chunk.errors) == (0, 0, 0, [])
            assert logins.commit() == []
            count += len(chunk.logins)
    return count


def ended(place):
    """Wait for the end of the recorder."""
    wait_until(lambda: not recording_processes(place.config), 90, "the recorder's end")


@pytest.mark.parametrize("how", ["refuse", "hang"])
def test_spooled_login_is_no_loss_and_comes_as_old_as_it_is(place, how):
    place.spool.mkdir()
    begun = time.time()
    with place.down(how):
        assert session(place.command(*GREETING), LOGIN).lines == []
        assert len(waiting(place)) == 1
        ended(place)
        # Long enough to tell its time from that of the drain.
        time.sleep(max(0, begun + SLACK_S + 2 - time.time()))
    assert place.rows() == []
    assert drain(place) == 1
    assert place.rows() == RECORDED
    # As old as the login; the age is rounded up to a second when a slow recorder reads it, and once
    # more when it is written, and two of the databases round their clock down to one.
    assert begun - 3 <= place.last_seen() <= begun + SLACK_S
    assert os.listdir(place.spool) == []
    assert drain(place) == 0


def test_wrapper_that_has_left_does_not_keep_the_login_from_the_spool(place):
    place.spool.mkdir()
    with place.down("hang"):
        (line,) = session(place.command(*GREETING, wait="0.01"), LOGIN).lines
        assert "no answer within 0.01 s" in line
        wait_until(lambda: waiting(place), 60, "the spooled login")
        ended(place)
    assert drain(place) == 1
    assert place.rows() == RECORDED


def test_stopped_server_costs_no_login(on_postgres):
    on_postgres.spool.mkdir()
    with on_postgres.down("stop"):
        assert session(on_postgres.command(*GREETING), LOGIN).lines == []
        ended(on_postgres)
    # It may take a moment to go on, and drain() waits for two seconds.
    wait_until(lambda: on_postgres.rows() == [], 20, "the server")
    assert drain(on_postgres) == 1
    assert on_postgres.rows() == RECORDED


def test_many_logins_at_once_all_wait(place):
    place.spool.mkdir()

    def one(number):
        login = {"IP": f"198.51.100.{number}", "USER": "alice"}
        return session(place.command(*GREETING, wait="50"), login).lines

    with place.down("refuse"):
        with ThreadPoolExecutor(8) as clients:
            assert list(clients.map(one, range(30))) == [[]] * 30
        ended(place)
        assert depth(str(place.spool)).records == 30
    assert drain(place) == 30
    expected = {(f"198.51.100.{number}", "alice", None) for number in range(30)}
    assert set(place.rows()) == expected


def test_spooled_login_does_not_undo_a_newer_one(place):
    place.spool.mkdir()
    with place.down("refuse"):
        assert session(place.command(*GREETING), {**LOGIN, "USER": "before"}).lines == []
        ended(place)
    # Without a spool it waits for its commit, however long that takes.
    aside = place.spool.rename(place.spool.with_name("aside"))
    assert session(place.command(*GREETING), LOGIN).lines == []
    ended(place)
    aside.rename(place.spool)
    seen = place.last_seen()
    assert drain(place) == 1
    assert (place.rows(), place.last_seen()) == (RECORDED, seen)


def refusals(place):
    """Yield what no patience helps with, and how to configure it."""
    yield "wrong password", {"password": "another-secret"}
    yield "missing table", {"extra": 'table = "elsewhere"'}
    yield "missing database", {"database": "nothing"}
    yield "password file that is missing", {"extra": f'password_file = "{place.spool}/none"'}


def test_refused_login_waits_until_the_reason_is_gone(on_postgres):
    on_postgres.spool.mkdir()
    for number, (kind, changes) in enumerate(refusals(on_postgres), 1):
        on_postgres.configure(**changes)
        assert session(on_postgres.command(*GREETING), LOGIN).lines == [], kind
        ended(on_postgres)
        assert len(waiting(on_postgres)) == number, kind
    on_postgres.configure()
    assert drain(on_postgres) == 4
    assert on_postgres.rows() == RECORDED


def test_table_that_was_dropped_costs_no_login(on_sqlite):
    on_sqlite.spool.mkdir()
    ((table,),) = on_sqlite.query("SELECT sql FROM sqlite_schema WHERE name = 'popbsmtp'")
    on_sqlite.query("DROP TABLE popbsmtp")
    assert session(on_sqlite.command(*GREETING), LOGIN).lines == []
    on_sqlite.query(table)
    ended(on_sqlite)
    # On a very slow machine the recorder was gone before the table was there.
    if waiting(on_sqlite):
        assert drain(on_sqlite) == 1
    assert on_sqlite.rows() == RECORDED


def test_recorded_login_leaves_nothing_in_the_spool(place):
    place.spool.mkdir()
    assert session(place.command(*GREETING), LOGIN).lines == []
    ended(place)
    assert place.rows() == RECORDED
    assert os.listdir(place.spool) == []


def test_ignored_login_is_not_spooled(on_sqlite):
    on_sqlite.spool.mkdir()
    with on_sqlite.down("refuse"):
        assert session(on_sqlite.command(*GREETING), {**LOGIN, "IP": "127.0.0.1"}).lines == []
    assert os.listdir(on_sqlite.spool) == []


@pytest.mark.parametrize("kind", ["missing", "full", "file", "closed", "read-only"])
def test_unusable_spool_is_named_and_the_database_tried_again(on_sqlite, kind):
    place, user = on_sqlite, 0
    if kind == "file":
        place.spool.write_text("")
    elif kind != "missing":
        place.spool.mkdir(mode=0o700)
    if kind == "full":
        place.configure('spool_size = "64K"')
        (place.spool / "other").write_bytes(b"x" * (64 << 10))
    elif kind == "closed":
        user = STRANGER
        for path in (place.database.parent, *place.database.parent.iterdir()):
            os.chown(path, user, user)
    elif kind == "read-only":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", place.spool], check=True)
    reason = {
        "missing": "No such file or directory; create it: install -d",
        "full": "is full: it holds 65536 of 65536 bytes (recorder.spool_size)",
        "file": "Not a directory",
        "closed": "Permission denied; it has to belong to the user who records",
        "read-only": "Read-only file system; mount its file system read-write",
    }[kind]
    try:
        with place.down("hang"):
            (line,) = session(place.command(*GREETING), LOGIN, user=user, group=user).lines
            assert line.startswith("popbsmtp-wrap: 198.51.100.7 not recorded: ")
            assert "; still trying in the background; " in line
            assert reason in line
        wait_until(lambda: place.rows() == RECORDED, 60, "the late row")
    finally:
        if kind == "read-only":
            subprocess.run(["umount", "-l", place.spool], check=True)


def test_spool_that_comes_while_the_database_is_tried_again_gets_the_login(on_sqlite):
    with on_sqlite.down("hang"):
        (line,) = session(on_sqlite.command(*GREETING), LOGIN).lines
        assert "; still trying in the background; " in line
        on_sqlite.spool.mkdir()
        wait_until(lambda: waiting(on_sqlite), 60, "the spooled login")
        ended(on_sqlite)
    assert drain(on_sqlite) == 1
    assert on_sqlite.rows() == RECORDED


def test_recorder_may_read_what_another_user_or_root_has_spooled(on_sqlite):
    place = on_sqlite
    place.spool.mkdir()
    os.chown(place.spool, STRANGER, STRANGER)
    place.spool.chmod(0o3770)
    other = {"user": OTHER_STRANGER, "group": OTHER_STRANGER, "extra_groups": [STRANGER]}
    with place.down("refuse"):
        assert session(place.command(*GREETING), LOGIN, umask=0o077).lines == []
        assert session(place.command(*GREETING), LOGIN, umask=0o077, **other).lines == []
        root, stranger = (one.stat() for one in waiting(place))
    assert (root.st_uid, root.st_gid) == (STRANGER, STRANGER)
    assert (stranger.st_uid, stranger.st_gid) == (OTHER_STRANGER, STRANGER)
    assert {root.st_mode & 0o777, stranger.st_mode & 0o777} == {0o640}


def test_database_that_hangs_leaves_the_spool_its_share_of_the_time(place):
    """The wrapper hears that the login is safe although the database may take much longer."""
    place.spool.mkdir()
    section = "database" if isinstance(place, FilePlace) else "extra"
    place.configure(**{section: 'connect_timeout = "60s"'})
    with place.down("hang"):
        assert session(place.command(*GREETING, wait="40"), LOGIN).lines == []
        assert len(waiting(place)) == 1
        ended(place)
    assert drain(place) == 1
    assert place.rows() == RECORDED


def test_database_that_is_only_slow_has_the_login_and_the_spool_has_it_no_more(on_sqlite):
    on_sqlite.spool.mkdir()
    with on_sqlite.down("hang"):
        assert session(on_sqlite.command(*GREETING, wait="1"), LOGIN).status == 0
        wait_until(lambda: waiting(on_sqlite), 60, "the spooled login")
    ended(on_sqlite)
    # On a very slow machine the recorder was gone before the database went on.
    if waiting(on_sqlite):
        assert drain(on_sqlite) == 1
    assert on_sqlite.rows() == RECORDED
    assert os.listdir(on_sqlite.spool) == []


def test_login_of_a_process_that_hangs_beyond_all_time_outs_is_spooled(on_sqlite):
    """Nothing bounds the opening of a FIFO; a dead NFS server is the like."""
    on_sqlite.spool.mkdir()
    password = on_sqlite.base / "password"
    os.mkfifo(password)
    on_sqlite.configure(database=f'password_file = "{password}"')
    assert session(on_sqlite.command(*GREETING, wait="40"), LOGIN).lines == []
    assert len(waiting(on_sqlite)) == 1
    # 33 MB are not held for longer than it may help.
    ended(on_sqlite)
    on_sqlite.configure()
    assert drain(on_sqlite) == 1
    assert on_sqlite.rows() == RECORDED


def test_spool_that_comes_while_a_process_hangs_gets_its_login(on_sqlite):
    password = on_sqlite.base / "password"
    os.mkfifo(password)
    on_sqlite.configure(database=f'password_file = "{password}"')
    # When it gives its answer it has looked for a spool.
    (line,) = session(on_sqlite.command(*GREETING), LOGIN).lines
    assert "; still trying in the background; " in line
    on_sqlite.spool.mkdir()
    wait_until(lambda: waiting(on_sqlite), 60, "the spooled login")
    ended(on_sqlite)
    on_sqlite.configure()
    assert drain(on_sqlite) == 1
    assert on_sqlite.rows() == RECORDED


def crowd(place, count, safe):
    """Log in *count* clients at once; assert that all programs ran beside one recorder at most.

    Return when safe() is *count* and all have ended.
    """
    command = place.command("/bin/true", wait="30")
    began = time.monotonic()
    wrappers = [
        subprocess.Popen(
            command, env={"IP": f"198.51.100.{n}", "USER": "a"}, stderr=subprocess.DEVNULL
        )
        for n in range(count)
    ]
    seen = set()
    while any(one.poll() is None for one in wrappers):
        seen.update(recording_processes(place.config))
        time.sleep(0.05)
    assert [one.returncode for one in wrappers] == [0] * count
    # The one that a login started, and perhaps the next: with linger = 0 a lull ends it.
    assert len(seen) <= 1 + time.monotonic() - began
    wait_until(lambda: not recording_processes(place.config) and safe() == count, 300, "the end")


@pytest.mark.slow
def test_crowd_before_a_database_that_hangs_is_spooled_by_one_process(on_sqlite):
    on_sqlite.spool.mkdir()
    with on_sqlite.down("hang"):
        crowd(on_sqlite, 120, lambda: depth(str(on_sqlite.spool)).records)
    assert drain(on_sqlite) == 120


@pytest.mark.slow
def test_crowd_is_in_the_table_without_a_flush(on_sqlite):
    on_sqlite.spool.mkdir()
    crowd(on_sqlite, 80, lambda: len(on_sqlite.rows()))
    assert waiting(on_sqlite) == []
