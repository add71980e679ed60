"""Databases that refuse, hang, are late, locked, read-only or full: the mailbox opens in time."""

import contextlib
import os
import resource
import subprocess
import time

import pytest

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
    descriptors,
    end_recorders,
    only_recorder,
    recording_processes,
    session,
)


@pytest.fixture(scope="module")
def postgres():
    yield from started(Postgres)


@pytest.fixture(scope="module")
def mariadb():
    yield from started(MariaDB)


@pytest.fixture
def on_postgres(postgres):
    yield from cleaned(postgres)


@pytest.fixture(params=["postgres", "mariadb"])
def place(request):
    yield from cleaned(request.getfixturevalue(request.param))


def only_line(ended):
    (line,) = ended.lines
    assert line.startswith("popbsmtp-wrap: 198.51.100.7 not recorded: ")
    assert "harness-secret" not in line
    return line


def test_login_is_committed_before_the_program_runs(place):
    assert session(place.command(*GREETING), LOGIN).lines == []
    assert place.rows() == RECORDED


def test_256_megabytes_suffice(place):
    limit = (256 << 20, 256 << 20)
    prepare = lambda: resource.setrlimit(resource.RLIMIT_AS, limit)  # noqa: E731
    assert session(place.command(*GREETING), LOGIN, prepare=prepare).lines == []
    assert place.rows() == RECORDED


def test_libpq_hears_nothing_of_the_environment(on_postgres, tmp_path):
    (tmp_path / "pgpass").write_text("*:*:*:*:wrong\n")
    hostile = {
        "PGHOST": "192.0.2.1",
        "PGHOSTADDR": "192.0.2.1",
        "PGPORT": "1",
        "PGDATABASE": "other",
        "PGUSER": "evil",
        "PGPASSWORD": "wrong",
        "PGPASSFILE": str(tmp_path / "pgpass"),
        "PGSERVICE": "evil",
        "PGSERVICEFILE": str(tmp_path / "pgpass"),
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGSSLMODE": "verify-full",
        "PGCLIENTENCODING": "nonsense",
        "PGTZ": "nonsense",
        "PGTARGETSESSIONATTRS": "standby",
    }
    assert session(on_postgres.command(*GREETING), {**LOGIN, **hostile}).lines == []
    assert on_postgres.rows() == RECORDED


def test_refusing_database_delays_nothing_and_gets_the_login_when_it_is_back(place):
    place.proxy.mode = "refuse"
    ended = session(place.command(*GREETING, wait="10"), LOGIN)
    line = only_line(ended)
    assert "refused" in line
    assert "still trying in the background" in line
    assert f"spool {place.spool}: No such file or directory; create it: install" in line
    assert ended.seconds < SLACK_S
    place.proxy.mode = "pass"
    wait_until(lambda: place.rows() == RECORDED, 20, "the late row")


def test_hanging_database_delays_by_the_wait_and_gets_the_login_when_it_answers(place):
    place.proxy.mode = "hang"
    started = time.time()
    ended = session(place.command(*GREETING, wait=""), LOGIN)
    assert "no answer within 2 s" in only_line(ended)
    assert 2 <= ended.seconds < 2 + SLACK_S
    pid = only_recorder(place.config)
    # At its start the first one is where wrappers connect.
    wait_until(lambda: descriptors(pid)[0] == "/dev/null", 60, "the recorder to be up")
    held = descriptors(pid)
    assert {held[0], held[1], held[2]} == {"/dev/null"}
    time.sleep(max(0, started + 5 - time.time()))
    place.proxy.mode = "pass"
    wait_until(lambda: place.rows() == RECORDED, 30, "the late row")
    seen = place.last_seen()
    # As old as the login; its age is rounded up twice, and the database's clock down.
    assert started - 3 <= seen <= started + SLACK_S


def test_stopped_database_delays_by_the_wait(place):
    with place.down("stop"):
        ended = session(place.command(*GREETING, wait="1"), LOGIN)
        assert 1 <= ended.seconds < 1 + SLACK_S
        assert "no answer within 1 s" in only_line(ended)
    wait_until(lambda: place.rows() == RECORDED, 30, "the late row")


def test_wrong_password_is_named_and_not_shown(on_postgres):
    on_postgres.configure(password="another-secret")
    line = only_line(session(on_postgres.command(*GREETING), LOGIN))
    assert "password authentication failed" in line
    assert "another-secret" not in line
    assert on_postgres.rows() == []


def test_password_that_is_mended_is_read_while_a_login_waits(on_postgres):
    password = on_postgres.config.parent / "password"
    password.write_text("another-secret\n")
    password.chmod(0o640)
    on_postgres.configure(extra=f'password_file = "{password}"')
    line = only_line(session(on_postgres.command(*GREETING), LOGIN))
    assert "password authentication failed" in line
    assert "another-secret" not in line
    password.write_text(f"{on_postgres.server.password}\n")
    wait_until(lambda: on_postgres.rows() == RECORDED, 60, "the late row")


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ('table = "elsewhere"', 'relation "elsewhere" does not exist'),
        ('user_column = "nobody"', 'column "nobody" of relation "popbsmtp" does not exist'),
    ],
)
def test_missing_table_or_column_is_named_with_what_to_type(on_postgres, extra, reason):
    on_postgres.configure(extra=extra)
    line = only_line(session(on_postgres.command(*GREETING), LOGIN))
    assert reason in line
    assert "popbsmtp init" in line


def test_missing_database_is_named(on_postgres):
    on_postgres.configure(database="nothing")
    assert 'database "nothing" does not exist' in only_line(
        session(on_postgres.command(*GREETING), LOGIN)
    )


def test_read_only_database_is_named(on_postgres):
    on_postgres.server.sql("ALTER DATABASE mail SET default_transaction_read_only = on")
    try:
        line = only_line(session(on_postgres.command(*GREETING), LOGIN))
    finally:
        on_postgres.server.sql("ALTER DATABASE mail RESET default_transaction_read_only")
    assert "read-only transaction" in line


# --- SQLite ----------------------------------------------------------------------------------


def test_sqlite_on_a_full_disk_is_named():
    base = public_directory()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", base], check=True)
    try:
        place = FilePlace(base)
        with contextlib.suppress(OSError), open(base / "filler", "wb", 0) as filler:
            while True:
                filler.write(b"x" * 4096)
        line = only_line(session(place.command(*GREETING, wait="20"), LOGIN))
        assert "disk" in line or "full" in line
        (base / "filler").unlink()
        assert session(place.command(*GREETING), LOGIN).lines == []
        assert place.rows() == RECORDED
        wait_until(lambda: not recording_processes(place.config), 60, "its end")
    finally:
        subprocess.run(["umount", "-l", base], check=True)


@pytest.mark.parametrize("kind", ["no directory", "no table", "no database", "read-only"])
def test_sqlite_file_that_takes_no_row_is_named(kind):
    stranger = 54323
    place = FilePlace(public_directory(), owner=stranger)
    if kind == "no directory":
        place.configure(url=f"sqlite:////{place.base}/nothing/popbsmtp.db")
    elif kind == "no table":
        place.query("DROP TABLE popbsmtp")
    elif kind == "no database":
        place.database.write_bytes(b"no database at all\n" * 1000)
    else:
        for path in (place.database.parent, place.database):
            os.chown(path, 0, 0)
            path.chmod(0o755 if path.is_dir() else 0o644)
    ended = session(place.command(*GREETING, wait="20"), LOGIN, user=stranger, group=stranger)
    line = only_line(ended)
    assert "nothing/popbsmtp.db" in line or "store/popbsmtp.db" in line
    end_recorders(place.config)
