"""What our statements do to replicas: the same rows, no warning, and lookups there."""

import random
import subprocess
import threading

import pytest

from popbsmtp_wrap.config import Database, Settings
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.postfix.maps import map_files
from popbsmtp_wrap.store import queries, removal, setup, upsert
from popbsmtp_wrap.store.engine import Store, open_store
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until

GRACE_S = 1800
NAME = "virtual_mail"
THREADS = 4
EACH = 300
ADDRESS = "198.51.100.7"

PRIMARY = {"log_warnings": "9", "innodb_autoinc_lock_mode": "1"}
APPLIERS = {
    "slave_parallel_threads": "4",
    "slave_parallel_mode": "optimistic",
    "log_warnings": "9",
    "log_bin": "binlog",
    "log_slave_updates": "ON",
}


def server_store(server: MariaDB | Postgres, **changes: object) -> Store:
    # Without TLS: setting it up takes PyMySQL most of a connection's time.
    query = "?ssl_disabled=true" if isinstance(server, MariaDB) else ""
    database = Database(url=server.url(NAME) + query, connect_timeout=10, **changes)
    return open_store(database)


def work(server, seed, problems):
    """Record, revoke and expire at random, in a connection per statement or in batches."""
    chance = random.Random(seed)
    store = server_store(server)
    try:
        for turn in range(EACH):
            address = f"10.0.{chance.randrange(3)}.{chance.randrange(100)}"
            age_s = chance.choice((0, 0, 5, 600, GRACE_S + 50))
            if turn % 25 == 0:
                removal.expire(store, GRACE_S)
            elif turn % 10 == 0:
                removal.revoke(store, [address, f"10.0.9.{turn % 50}"])
            elif turn % 3 == 0:
                batch = [
                    Login(f"10.0.{chance.randrange(3)}.{n}", f"ü{seed}", "imap", age_s)
                    for n in chance.sample(range(100), 20)
                ]
                with store.engine.begin() as connection:
                    connection.execute(upsert.upsert(store, batch))
            else:
                upsert.record(store, Login(address, f"user{seed}", "pop3", age_s), 10)
    except Exception as error:  # noqa: BLE001 - the test shows it
        problems.append(error)


def rows(server):
    return server.sql(
        "SELECT address, UNIX_TIMESTAMP(last_seen), UNIX_TIMESTAMP(first_seen), username, service"
        f" FROM {NAME}.popbsmtp ORDER BY address"
    )


def checksum(server):
    return server.sql(f"CHECKSUM TABLE {NAME}.popbsmtp")[0][1]


@pytest.fixture(scope="module", params=["STATEMENT", "MIXED", "ROW"])
def mariadb_pair(request, tmp_path_factory):
    """A primary and two replicas, one of which takes one database only."""
    base = tmp_path_factory.mktemp(request.param)
    primary = MariaDB(base, settings=PRIMARY | {"binlog_format": request.param})
    replica_zone = {"default_time_zone": "+09:00"}
    with (
        primary,
        MariaDB(base, settings=APPLIERS | replica_zone, replica_of=primary) as replica,
        MariaDB(
            base, settings=APPLIERS | {"replicate_do_db": NAME}, replica_of=primary
        ) as filtered,
    ):
        yield primary, (replica, filtered)


@pytest.mark.slow
def test_mariadb_replicas_hold_the_same_rows(mariadb_pair):
    primary, replicas = mariadb_pair
    primary.create_database(NAME)
    store = server_store(primary)
    assert setup.create(store)
    problems: list[Exception] = []
    threads = [
        threading.Thread(target=work, args=(primary, seed, problems)) for seed in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not problems, problems
    # Old rows and a last expiry, so that each format has deleted for certain.
    with store.engine.begin() as connection:
        old = [Login(f"10.9.9.{n}", age_s=10 * GRACE_S) for n in range(200)]
        connection.execute(upsert.upsert(store, old))
    assert removal.expire(store, GRACE_S) >= 200
    assert removal.revoke(store, ["10.0.0.1"]) in (0, 1)
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    expected = rows(primary)
    assert len(expected) > 50
    for replica in replicas:
        replica.wait_caught_up(30)
        assert rows(replica) == expected
        assert checksum(replica) == checksum(primary)
        status = replica.replica_status()
        assert status["Slave_SQL_Running"] == "Yes"
        assert (status["Last_SQL_Errno"], status["Last_IO_Errno"]) == (0, 0)
        replica_store = server_store(replica)
        assert queries.remaining_s(replica_store, ADDRESS, GRACE_S) > GRACE_S - 60
        assert queries.remaining_s(replica_store, "10.9.9.9", GRACE_S) is None
        assert setup.differences(replica_store) == []
    for server in (primary, *replicas):
        assert "unsafe" not in server.log_text().lower()


def test_mariadb_logs_an_unsafe_statement_where_there_is_one(mariadb_pair):
    # Proves that the search above finds something.
    primary, _ = mariadb_pair
    primary.sql("CREATE DATABASE IF NOT EXISTS other")
    primary.sql("CREATE TABLE IF NOT EXISTS other.t (a INT PRIMARY KEY)")
    primary.sql("DELETE FROM other.t LIMIT 1")
    statement = primary.sql("SELECT @@GLOBAL.binlog_format") == [("STATEMENT",)]
    assert ("unsafe" in primary.log_text().lower()) is statement


@pytest.fixture(scope="module")
def postgres_pair(tmp_path_factory):
    base = tmp_path_factory.mktemp("streaming")
    with Postgres(base) as primary:
        primary.create_database(NAME)
        with Postgres(base, standby_of=primary) as standby:
            setup.create(server_store(primary))
            yield primary, standby


def test_postgresql_standby_answers_lookups(postgres_pair, tmp_path):
    primary, standby = postgres_pair
    on_primary, on_standby = server_store(primary), server_store(standby)
    upsert.record(on_primary, Login(ADDRESS, "ann", "imap"))
    upsert.record(on_primary, Login("192.0.2.1", age_s=GRACE_S + 60))
    standby.wait_caught_up()
    assert queries.remaining_s(on_standby, ADDRESS, GRACE_S) > GRACE_S - 60
    assert queries.remaining_s(on_standby, "192.0.2.1", GRACE_S) is None
    assert next(queries.rows(on_standby, GRACE_S)).user == "ann"
    assert removal.expired_count(on_standby, GRACE_S) == 1
    assert setup.differences(on_standby) == []
    assert setup.create(on_standby) is False
    for address, answer in ((ADDRESS, "OK"), ("192.0.2.1", "")):
        assert postmap(standby, address, tmp_path) == answer
    assert removal.revoke(on_primary, [ADDRESS]) == 1
    standby.wait_caught_up()
    assert postmap(standby, ADDRESS, tmp_path) == ""


def postmap(server, address, directory):
    """Return what Postfix's own program answers with the map that we generate."""
    secret = directory / "password"
    secret.write_text(server.password)
    secret.chmod(0o600)
    settings = Settings(
        grace=GRACE_S,
        database=Database(
            url=f"postgresql://postgres@127.0.0.1:{server.port}/{NAME}", password_file=str(secret)
        ),
    )
    [map_file] = map_files(settings, str(directory))
    path = directory / map_file.name
    path.write_text(map_file.text)
    done = subprocess.run(
        ["postmap", "-q", address, f"pgsql:{path}"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert not done.stderr
    return done.stdout.strip()


def test_postgresql_standby_refuses_to_record_and_says_why(postgres_pair):
    _, standby = postgres_pair
    store = server_store(standby)
    for job in (
        lambda: upsert.record(store, Login(ADDRESS)),
        lambda: removal.revoke(store, [ADDRESS]),
        lambda: removal.revoke(store, None),
        lambda: setup.create(server_store(standby, table="other")),
    ):
        with pytest.raises(StoreUnavailableError, match=r"read-only.*primary") as refused:
            job()
        assert refused.value.exit_code == 75
        assert "\n" not in str(refused.value)
        assert standby.password not in str(refused.value)


def test_postgresql_standby_that_becomes_primary_records(postgres_pair):
    _, standby = postgres_pair
    standby.sql("SELECT pg_promote()")
    wait_until(lambda: standby.sql("SELECT pg_is_in_recovery()") == [(False,)], 10, "promotion")
    store = server_store(standby)
    upsert.record(store, Login(ADDRESS, "bob"))
    assert queries.remaining_s(store, ADDRESS, GRACE_S) > GRACE_S - 60
