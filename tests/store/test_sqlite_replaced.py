"""An SQLite database that is moved, removed or replaced while connections to it are open."""

import os
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest

from popbsmtp_wrap.errors import PopbsmtpError, SchemaError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import removal, renewal, setup, upsert
from popbsmtp_wrap.store.batch import BatchWriter, Seen
from popbsmtp_wrap.store.engine import open_store
from tests.store.places import ADDRESS, GRACE_S, OTHER


def seen(*addresses):
    return [Seen(Login(address), time.monotonic()) for address in addresses]


def files_of(place):
    return [path for path in place.path.parent.iterdir() if path.name.startswith(place.path.name)]


def remove(place):
    for path in files_of(place):
        path.unlink()


def init(place):
    place.path.touch()
    assert setup.create(place.store())


def removed_and_made_anew(place):
    remove(place)
    init(place)


def moved_and_made_anew(place):
    for path in files_of(place):
        path.rename(path.with_name(f"moved-{path.name}"))
    init(place)


def directory_replaced(place):
    folder = place.path.parent
    folder.rename(folder.with_name(f"{folder.name}-moved"))
    folder.mkdir()
    init(place)


def link_switched(place):
    other = place.path.with_name("other.db")
    new = replace(place.database, url=f"sqlite:///{other}")
    other.touch()
    assert setup.create(open_store(new))
    link = place.path.with_name("link")
    link.symlink_to(other)
    link.rename(place.path)


def backup_moved_over_it(place):
    backup = place.path.with_name("backup")
    with closing(place.session()) as live, closing(sqlite3.connect(backup)) as target:
        live.backup(target)
        target.execute("DELETE FROM popbsmtp")
        target.commit()
    for path in files_of(place):
        if path != place.path:
            path.unlink()
    backup.rename(place.path)


REPLACEMENTS = [
    removed_and_made_anew,
    moved_and_made_anew,
    directory_replaced,
    link_switched,
    backup_moved_over_it,
]


@pytest.fixture
def place(sqlite_place, tmp_path):
    """A database in a directory of its own."""
    folder = tmp_path / "store"
    folder.mkdir()
    sqlite_place.path = folder / "popbsmtp.db"
    sqlite_place.path.touch()
    sqlite_place.database = replace(
        sqlite_place.database, url=f"sqlite:///{sqlite_place.path}", connect_timeout=5
    )
    sqlite_place.created()
    return sqlite_place


@pytest.fixture
def writer(place):
    writer = BatchWriter(open_store(place.database, stay_connected=True, autocommit=True))
    writer.write(seen(OTHER))
    yield writer
    writer.close()


@pytest.mark.parametrize("replace_it", REPLACEMENTS)
def test_a_login_is_written_to_the_database_that_others_read(place, writer, replace_it):
    replace_it(place)
    writer.write(seen(ADDRESS))
    assert ADDRESS in place.addresses()
    assert writer.replacements >= 1


@pytest.mark.parametrize("replace_it", REPLACEMENTS)
def test_a_login_at_once_is_written_there_or_not_acknowledged(place, writer, replace_it):
    replace_it(place)
    done = writer.write_at_once(seen(ADDRESS), 5)
    assert done == (ADDRESS in place.addresses())
    writer.write(seen(ADDRESS))
    assert ADDRESS in place.addresses()


@pytest.mark.parametrize("replace_it", REPLACEMENTS)
def test_a_database_that_is_replaced_during_a_commit_gets_the_login_again(
    place, writer, replace_it, monkeypatch
):
    once = [replace_it]
    execute = writer._execute

    def replaced_meanwhile(*arguments):
        execute(*arguments)
        if once:
            once.pop()(place)

    # The moment between the statement and its commit is too short to be met from outside.
    monkeypatch.setattr(writer, "_execute", replaced_meanwhile)
    writer.write(seen(ADDRESS))
    assert not once
    assert ADDRESS in place.addresses()


@pytest.mark.parametrize("replace_it", REPLACEMENTS)
def test_a_pooled_connection_follows_too(place, replace_it):
    store = open_store(place.database, stay_connected=True)
    upsert.record(store, Login(OTHER))
    replace_it(place)
    upsert.record(store, Login(ADDRESS))
    assert ADDRESS in place.addresses()
    assert renewal.renew(store, [ADDRESS], time.monotonic(), GRACE_S).rows == 1
    place.sql("UPDATE popbsmtp SET last_seen = 1")
    assert removal.expire(store, GRACE_S) >= 1
    assert place.addresses() == []


@pytest.mark.parametrize("replace_it", REPLACEMENTS)
def test_a_row_is_missing_where_others_would_not_find_it(place, writer, replace_it):
    writer.write(seen(ADDRESS))
    replace_it(place)
    assert writer.missing([ADDRESS], GRACE_S) == {ADDRESS}


def test_no_login_is_taken_while_there_is_no_database(place, writer):
    remove(place)
    for _ in range(2):
        assert not writer.write_at_once(seen(ADDRESS), 5)
        with pytest.raises(SchemaError, match="run: popbsmtp init"):
            writer.write(seen(ADDRESS))
        with pytest.raises(SchemaError, match="run: popbsmtp init"):
            writer.ping()
    assert files_of(place) == []
    place.path.touch()
    with pytest.raises(PopbsmtpError, match="run: popbsmtp init"):
        writer.write(seen(ADDRESS))
    init(place)
    writer.write(seen(ADDRESS))
    assert place.addresses() == [ADDRESS]


@pytest.mark.parametrize("which", [["-wal"], ["-wal", "-shm"]])
def test_what_is_in_a_write_ahead_log_that_is_removed_is_saved(place, writer, which):
    for suffix in which:
        os.unlink(f"{place.path}{suffix}")
    writer.write(seen(ADDRESS))
    assert place.addresses() == sorted([ADDRESS, OTHER])
    writer.close()
    assert place.addresses() == sorted([ADDRESS, OTHER])
    assert place.sql("PRAGMA integrity_check") == [("ok",)]


def test_a_backup_that_is_copied_over_it_stays_whole(place, writer):
    backup = place.path.with_name("backup")
    addresses = [f"198.51.100.{number}" for number in range(200)]
    for address in addresses:
        place.put(address, 0)
    with closing(place.session()) as live, closing(sqlite3.connect(backup)) as target:
        live.backup(target)
        target.execute("DELETE FROM popbsmtp")
        target.commit()
    writer.write(seen("203.0.113.1"))
    for suffix in ("-wal", "-shm"):
        os.unlink(f"{place.path}{suffix}")
    shutil.copyfile(backup, place.path)
    writer.write(seen(ADDRESS))
    assert place.addresses() == [ADDRESS]
    assert place.sql("PRAGMA integrity_check") == [("ok",)]


def test_a_database_without_a_write_ahead_log_is_followed_as_well(place, writer):
    writer.close()
    place.sql("PRAGMA journal_mode = DELETE")
    writer.write(seen(OTHER))
    writer.write(seen(ADDRESS))
    assert place.addresses() == sorted([ADDRESS, OTHER])
    removed_and_made_anew(place)
    writer.write(seen(ADDRESS))
    assert place.addresses() == [ADDRESS]
