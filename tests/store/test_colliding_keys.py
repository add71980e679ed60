"""Tables with a key that makes logins of different addresses collide: init and doctor name it."""

import pytest

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.doctor.database import check_database
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, setup, upsert
from tests.store.places import ADDRESS, GRACE_S, postfix_permits
from tests.store.test_adoption import printed_sql, run_by_client

ALICE = "203.0.113.9"
COLLIDING = {
    "user": "CREATE UNIQUE INDEX once ON popbsmtp (username)",
    "user and service": "CREATE UNIQUE INDEX once ON popbsmtp (username, service)",
    "time": "CREATE UNIQUE INDEX once ON popbsmtp (first_seen)",
    "constant": "CREATE UNIQUE INDEX once ON popbsmtp (note)",
}
SAFE = {
    "address and user": "CREATE UNIQUE INDEX once ON popbsmtp (address, username)",
    "null": "CREATE UNIQUE INDEX once ON popbsmtp (extra)",
    "user and null": "CREATE UNIQUE INDEX once ON popbsmtp (username, extra)",
}
MORE = [
    "ALTER TABLE popbsmtp ADD COLUMN note varchar(9) DEFAULT 'x'",
    "ALTER TABLE popbsmtp ADD COLUMN extra varchar(9)",
]


def serious(store):
    return [found for found in setup.differences(store) if not found.harmless]


def failures(store):
    settings = Settings(database=store.database)
    return [finding for finding in check_database(settings) if finding.level == "FAIL"]


def assert_changed_by_its_sql(place, **columns):
    run_by_client(place, printed_sql(place.store(**columns)))
    store = place.store(**columns)
    assert serious(store) == []
    for address in (ADDRESS, ALICE):
        for _ in range(2):
            upsert.record(store, Login(address, "alice", "imap"))
    assert {row.address for row in queries.rows(store, GRACE_S)} >= {ADDRESS, ALICE}
    assert postfix_permits(store, ALICE)


@pytest.mark.parametrize("key", COLLIDING)
def test_key_that_two_addresses_collide_in_is_named_and_dropped(place, key):
    store = place.created()
    place.sql(*MORE, COLLIDING[key])
    assert "different addresses collide" in " ".join(found.what for found in serious(store))
    assert any("different addresses collide" in found.what for found in failures(store))
    assert_changed_by_its_sql(place)


@pytest.mark.parametrize("key", SAFE)
def test_key_that_no_two_addresses_collide_in_is_right(place, key):
    store = place.created()
    place.sql(*MORE, SAFE[key])
    assert serious(store) == []
    for address in (ADDRESS, ALICE):
        upsert.record(store, Login(address, "alice", "imap"))
    assert postfix_permits(store, ADDRESS)
    assert postfix_permits(store, ALICE)


@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_colliding_key_of_an_expression_or_of_some_rows_is_named(places, kind):
    for key in ("(lower(username))", "(username) WHERE service IS NOT NULL"):
        place = places.new(kind)
        store = place.created()
        place.sql(f"CREATE UNIQUE INDEX once ON popbsmtp {key}")
        assert "different addresses collide" in " ".join(found.what for found in serious(store))
        assert_changed_by_its_sql(place)


def test_primary_key_of_the_user_is_replaced(place):
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[place.kind]
    place.sql(
        f"CREATE TABLE popbsmtp (address varchar(45) NOT NULL, last_seen {time_type} NOT NULL,"
        " username varchar(255) NOT NULL, PRIMARY KEY (username))",
        "CREATE INDEX seen ON popbsmtp (last_seen)",
    )
    assert_changed_by_its_sql(place, first_seen_column="", service_column="")


@pytest.mark.parametrize("key", ["PRIMARY KEY (address({}))", "UNIQUE KEY one (address({}))"])
@pytest.mark.parametrize("kind", ["TEXT", "varchar(45)"])
def test_key_of_the_beginnings_of_addresses_is_named_and_replaced(mysql_place, kind, key):
    mysql_place.sql(
        f"CREATE TABLE popbsmtp (address {kind} CHARACTER SET ascii NOT NULL,"
        " last_seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,"
        f" username varchar(255), {key.format(11)}, INDEX (last_seen))"
    )
    columns = {"first_seen_column": "", "service_column": ""}
    mysql_place.put("198.51.100.77", GRACE_S)
    what = " ".join(found.what for found in serious(mysql_place.store(**columns)))
    assert "address(11)" in what
    assert "different addresses collide" in what
    assert_changed_by_its_sql(mysql_place, **columns)


def test_key_of_the_beginnings_that_takes_whole_addresses_is_right(mysql_place):
    mysql_place.sql(
        "CREATE TABLE popbsmtp (address TEXT CHARACTER SET ascii NOT NULL,"
        " last_seen TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,"
        " username varchar(255), PRIMARY KEY (address(39)), INDEX (last_seen))"
    )
    store = mysql_place.store(first_seen_column="", service_column="")
    assert setup.differences(store) == []


def test_login_never_renews_the_row_of_another_address(mysql_place):
    store = mysql_place.created()
    mysql_place.sql("ALTER TABLE popbsmtp ADD UNIQUE (username)")
    upsert.record(store, Login(ADDRESS, "alice", "imap", GRACE_S + 60))
    upsert.record(store, Login(ALICE, "alice", "imap"))
    assert not postfix_permits(store, ADDRESS)
    assert mysql_place.sql("SELECT service FROM popbsmtp") == [("imap",)]


@pytest.mark.parametrize("clause", ["IGNORE", "REPLACE"])
@pytest.mark.parametrize("column", ["address", "service"])
def test_clause_that_drops_rows_without_an_error_is_named(sqlite_place, clause, column):
    unique = {"address": "TEXT NOT NULL", "service": "TEXT"}
    unique[column] += f" UNIQUE on  conflict {clause}"
    sqlite_place.sql(
        f"CREATE TABLE popbsmtp (address {unique['address']}, last_seen INTEGER NOT NULL,"
        f" username TEXT DEFAULT 'on conflict', service {unique['service']})",
        "CREATE INDEX seen ON popbsmtp (last_seen)",
    )
    store = sqlite_place.store(first_seen_column="")
    assert f"ON CONFLICT {clause}" in " ".join(found.what for found in serious(store))
    assert_changed_by_its_sql(sqlite_place, first_seen_column="")
