"""What the user reads when the database does not play along: class, place, advice; no password."""

import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.errors import (
    ConfigError,
    PopbsmtpError,
    RefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, setup, upsert
from popbsmtp_wrap.store.engine import open_store, ping
from tests.harness.directories import give, public_directory
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres
from tests.store.places import ADDRESS, GRACE_S

SECRET = "s3cret-p@ss"


def trouble(store, kind, *words, jobs=None):
    """Check that every job of *store* fails with *kind* in one line that contains *words*."""
    for name, job in (jobs or JOBS).items():
        with pytest.raises(PopbsmtpError) as raised:
            job(store)
        message = str(raised.value)
        assert type(raised.value) is kind, (name, message)
        assert (
            raised.value.exit_code
            == {
                StoreUnavailableError: 75,
                SchemaError: 78,
                RefusedError: 77,
            }[kind]
        )
        assert "\n" not in message
        for word in words:
            assert word in message, name
        for secret in (SECRET, "harness-secret", "s3cret-p%40ss"):
            assert secret not in message


JOBS = {
    "record": lambda store: upsert.record(store, Login(ADDRESS, "ann")),
    "check": lambda store: queries.remaining_s(store, ADDRESS, GRACE_S),
    "list": lambda store: list(queries.rows(store, GRACE_S)),
    "expire": lambda store: removal.expire(store, GRACE_S),
    "count": lambda store: removal.expired_count(store, GRACE_S),
    "revoke": lambda store: removal.revoke(store, [ADDRESS]),
}
WRITERS = {name: JOBS[name] for name in ("record", "revoke")}
SETUP = {"init": setup.create, "differences": setup.differences, "ping": ping}


@pytest.fixture(params=["postgresql", "mysql"])
def server_place(request, places):
    return places.new(request.param)


def moved(store, port):
    url = store.engine.url
    where = f"{url.get_backend_name()}://{url.username}:{url.password}@127.0.0.1:{port}/x"
    return open_store(replace(store.database, url=where))


def test_no_table_says_init(place):
    trouble(place.store(), SchemaError, "popbsmtp", "run: popbsmtp init")


def test_missing_column_says_init(place):
    place.created(user_column="")
    trouble(place.store(), SchemaError, "run: popbsmtp init", jobs={"record": JOBS["record"]})


def test_column_that_takes_no_null_says_init(place):
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[place.kind]
    place.sql(
        f"CREATE TABLE popbsmtp (address VARCHAR(45) PRIMARY KEY, last_seen {time_type} NOT NULL,"
        " host_name VARCHAR(9) NOT NULL)"
    )
    store = place.store(first_seen_column="", user_column="", service_column="")
    trouble(store, SchemaError, "run: popbsmtp init", jobs={"record": JOBS["record"]})
    assert any("host_name takes no NULL" in found.what for found in setup.differences(store))


def test_no_database_says_to_create_it(server_place):
    url = server_place.server.url("nowhere")
    store = server_place.store(url=url)
    trouble(store, SchemaError, "nowhere", "create the database", jobs=JOBS | SETUP)


def test_missing_file_says_init(sqlite_place):
    sqlite_place.path.unlink()
    trouble(sqlite_place.store(), SchemaError, "run: popbsmtp init", jobs=JOBS | SETUP)
    assert not sqlite_place.path.exists()


def test_file_that_is_no_database_says_to_move_it(sqlite_place):
    sqlite_place.path.write_bytes(b"no database, but long enough to be read as one\n" * 99)
    trouble(sqlite_place.store(), SchemaError, "move the file away", jobs=JOBS | SETUP)


@pytest.mark.parametrize("user", [None, "nobody_there"])
def test_wrong_password_or_user_is_refused(server_place, user):
    user = user or server_place.server.superuser
    store = server_place.store(url=server_place.server.url(server_place.name, user, SECRET))
    trouble(store, RefusedError, user, "***", "check user and password", jobs=JOBS | SETUP)


def test_missing_password_is_refused(server_place):
    server = server_place.server
    store = server_place.store(url=server.url(server_place.name, server.superuser, ""))
    trouble(store, RefusedError, "check user and password", jobs=JOBS)


def test_account_without_the_right_to_connect_is_refused(postgres_place):
    name = postgres_place.name
    postgres_place.sql(
        f"CREATE ROLE kept_out LOGIN PASSWORD '{SECRET}'",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
    )
    url = postgres_place.server.url(name, "kept_out", SECRET)
    try:
        trouble(postgres_place.store(url=url), RefusedError, "check user and password")
    finally:
        postgres_place.sql("DROP ROLE kept_out")


def test_nothing_listens(server_place):
    store = moved(server_place.store(), free_port())
    started = time.monotonic()
    trouble(store, StoreUnavailableError, "check that the server is up", jobs=JOBS | SETUP)
    assert time.monotonic() - started < 5


def test_read_only_postgresql_says_so(postgres_place):
    postgres_place.created()
    name = postgres_place.name
    postgres_place.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store = postgres_place.store()
    trouble(store, StoreUnavailableError, "read-only", "primary", jobs=WRITERS)
    trouble(
        postgres_place.store(table="other"),
        StoreUnavailableError,
        "read-only",
        jobs={"init": setup.create},
    )
    assert queries.remaining_s(store, ADDRESS, GRACE_S) is None
    assert list(queries.rows(store, GRACE_S)) == []


def test_read_only_mariadb_says_so(mysql_place):
    store = mysql_place.created()
    name, secret = mysql_place.name, SECRET
    mysql_place.sql(
        f"CREATE USER 'plain'@'%' IDENTIFIED BY '{secret}'", f"GRANT ALL ON {name}.* TO 'plain'@'%'"
    )
    plain = mysql_place.store(url=mysql_place.server.url(name, "plain", secret))
    mysql_place.sql("SET GLOBAL read_only = 1")
    try:
        trouble(plain, StoreUnavailableError, "read-only", "primary", jobs=WRITERS)
        assert queries.remaining_s(plain, ADDRESS, GRACE_S) is None
    finally:
        mysql_place.sql("SET GLOBAL read_only = 0", "DROP USER 'plain'@'%'")
    upsert.record(store, Login(ADDRESS))


def as_nobody(function, *arguments):
    """Run *function* in a process without root's rights; return what it returns."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_without_root, args=(results, function, arguments))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    return results.get()


def _without_root(results, function, arguments):
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
    results.put(function(*arguments))


def _messages(place, jobs):
    found = {}
    for name in jobs:
        store = place.store()
        try:
            JOBS[name](store)
        except PopbsmtpError as error:
            found[name] = (type(error), str(error))
    return found


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "failing"),
    [
        (0o444, 0o777, ("record", "revoke")),
        (0o666, 0o555, ("record", "revoke")),
        (0o600, 0o777, tuple(JOBS)),
        (0o666, 0o700, tuple(JOBS)),
    ],
)
def test_closed_sqlite_file_or_directory_is_refused(
    sqlite_place, tmp_path_factory, file_mode, directory_mode, failing
):
    directory = sqlite_place.path.parent / f"closed{file_mode:o}{directory_mode:o}"
    directory.mkdir()
    path = directory / "popbsmtp.db"
    path.touch()
    sqlite_place.path = path
    sqlite_place.database = replace(sqlite_place.database, url=f"sqlite:///{path}")
    sqlite_place.created()
    path.chmod(file_mode)
    directory.chmod(directory_mode)
    found = as_nobody(_messages, sqlite_place, failing)
    assert found.keys() == set(failing)
    for kind, message in found.values():
        assert kind is RefusedError
        assert str(path) in message
        assert "check owner and mode" in message


def test_full_disk_says_to_make_room(sqlite_place):
    store = sqlite_place.created()

    @sa.event.listens_for(store.engine, "connect")
    def _small(connection, record):
        connection.execute("PRAGMA max_page_count = 5")

    def fill():
        for number in range(2000):
            upsert.record(store, Login(f"10.0.{number // 250}.{number % 250}", "u" * 200))

    with pytest.raises(StoreUnavailableError, match=r"full.*make room on the disk") as raised:
        fill()
    assert raised.value.exit_code == 75
    assert removal.revoke(store, None) > 10
    upsert.record(store, Login(ADDRESS))


HANGING = JOBS | SETUP


def seconds(job, store):
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError) as raised:
        job(store)
    return time.monotonic() - started, str(raised.value)


@pytest.mark.parametrize(
    ("job", "answer_s"), [("record", None), ("record", 60.0), ("check", None), ("init", 60.0)]
)
def test_server_that_accepts_and_never_answers_is_waited_for_once(server_place, job, answer_s):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = moved(server_place.store(), silent.getsockname()[1])
        store = open_store(replace(store.database, connect_timeout=2), answer_s)
        took_s, message = seconds(HANGING[job], store)
    assert 0.9 < took_s < 4.5
    assert "check that the server is up" in message


@pytest.mark.parametrize("job", ["record", "check"])
def test_server_that_stops_after_connecting_is_waited_for_once(places, server_place, job):
    store = server_place.created()
    server = server_place.server

    @sa.event.listens_for(store.engine, "begin")
    def _pause(connection):
        if not paused:
            server.pause()
            paused.append(True)

    paused = []
    try:
        took_s, _ = seconds(JOBS[job], store)
    finally:
        server.resume()
    assert 1.5 < took_s < 4.5


def test_locked_sqlite_file_is_waited_for_once(sqlite_place):
    store = sqlite_place.created()
    with contextlib.closing(sqlite_place.session()) as other:
        other.execute("BEGIN EXCLUSIVE")
        took_s, message = seconds(JOBS["record"], store)
        assert 1.5 < took_s < 4.5
        assert "another program is writing" in message
        # Readers do not wait for writers.
        assert queries.remaining_s(store, ADDRESS, GRACE_S) is None
    upsert.record(store, Login(ADDRESS))


@pytest.fixture(scope="module")
def tls_postgres():
    folder = public_directory()
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    for path in (certificate, key):
        give(path, "postgres", mode=0o600)
    files = {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}
    with Postgres(folder, settings=files) as running:
        running.create_database("mail")
        yield running


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ("sslmode=verify-full", "sslrootcert"),
        ("sslmode=verify-ca&sslrootcert=/nowhere/ca.pem", "sslrootcert"),
    ],
)
def test_missing_certificate_of_postgresql_is_named(tls_postgres, monkeypatch, options, word):
    monkeypatch.setenv("HOME", "/nowhere")
    store = open_store(Database(url=f"{tls_postgres.url('mail')}?{options}"))
    with pytest.raises(ConfigError, match=f"correct {word}") as raised:
        queries.remaining_s(store, ADDRESS, GRACE_S)
    assert raised.value.exit_code == 78
    assert "popbsmtp init" not in str(raised.value)
    assert "create the database" not in str(raised.value)


def test_package_that_authentication_needs_is_named(mysql_place, monkeypatch):
    # As where PyNaCl is not installed.
    monkeypatch.setitem(sys.modules, "nacl", None)
    monkeypatch.setattr("pymysql._auth._nacl_bindings", None)
    mysql_place.sql("INSTALL SONAME 'auth_ed25519'")
    try:
        mysql_place.sql(
            f"CREATE USER edward@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{SECRET}')",
            f"GRANT ALL ON {mysql_place.name}.* TO edward@'%'",
        )
        url = mysql_place.server.url(mysql_place.name, "edward", SECRET) + "?ssl_disabled=true"
        store = mysql_place.store(url=url)
        for job in (JOBS | SETUP).values():
            with pytest.raises(ConfigError, match=r"PyMySQL\[rsa,ed25519\]") as raised:
                job(store)
            assert raised.value.exit_code == 78
            assert SECRET not in str(raised.value)
    finally:
        mysql_place.sql("DROP USER IF EXISTS edward@'%'", "UNINSTALL SONAME 'auth_ed25519'")


@pytest.mark.parametrize("password", ["a", "in", "e"])
def test_very_short_password_is_hidden_where_it_is_one_and_not_in_words(server_place, password):
    server = server_place.server
    store = server_place.store(url=server.url(server_place.name, "nobody", password))
    with pytest.raises(RefusedError) as raised:
        queries.remaining_s(store, ADDRESS, GRACE_S)
    message = str(raised.value)
    assert f":{password}@" not in message
    assert message.count("***") == 1
    assert "authentication failed" in message or "Access denied" in message
