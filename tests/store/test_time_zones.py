"""Zones of server, session and client never change who may relay."""

import contextlib
import os
import time
from itertools import pairwise

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.store.places import (
    ADDRESS,
    GRACE_S,
    MariadbPlace,
    PostgresPlace,
    lookup_text,
    postfix_permits,
)

CLIENT_ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles", "Pacific/Kiritimati")
# Europe/Berlin repeats 02:00 to 02:59 at this moment, 2026-10-25 01:00 UTC.
FALL_BACK = 1_792_890_000


@contextlib.contextmanager
def client_zone(name):
    before = {key: os.environ.get(key) for key in ("TZ", "PGTZ")}
    os.environ.update(TZ=name, PGTZ=name)
    time.tzset()
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
        time.tzset()


def state(place, store, address):
    """Return who may relay, by the code and by the lookup query in sessions all over the world."""
    permitted = {postfix_permits(store, address)}
    for hours_east in (-11, 0, 5, 13):
        permitted.add(postfix_permits(store, address, place.session_in_zone(hours_east)))
    permitted.add(queries.remaining_s(store, address, GRACE_S) is not None)
    [answer] = permitted
    return answer


def check_everywhere(place):
    place.created()
    for number, zone in enumerate(CLIENT_ZONES):
        with client_zone(zone):
            for age_s, expected in ((0, True), (GRACE_S - 60, True), (GRACE_S + 60, False)):
                address = f"192.0.2.{number * 10 + (age_s > 0) + (age_s > GRACE_S)}"
                upsert.record(place.store(), Login(address, age_s=age_s))
                for other_zone in CLIENT_ZONES[:2]:
                    with client_zone(other_zone):
                        assert state(place, place.store(), address) is expected
            [row] = queries.rows(place.store(), GRACE_S, f"192.0.2.{number * 10}")
            assert abs(row.last_seen - time.time()) < 30
            assert abs(row.first_seen - time.time()) < 30
            assert row.remaining_s > GRACE_S - 30
    with client_zone(CLIENT_ZONES[-1]):
        assert removal.expire(place.store(), GRACE_S) == len(CLIENT_ZONES)


def test_zone_of_the_client_changes_nothing(place):
    check_everywhere(place)


def test_zone_of_database_and_role_changes_nothing(postgres_place):
    name = postgres_place.name
    for zone in ("America/New_York", "Asia/Kolkata"):
        postgres_place.sql(f"ALTER DATABASE {name} SET timezone = '{zone}'")
        assert postgres_place.sql("SHOW timezone") == [(zone,)]
        check_everywhere(postgres_place)
        postgres_place.sql("DROP TABLE popbsmtp")


def test_zone_of_the_postgresql_server_changes_nothing(tmp_path):
    with Postgres(tmp_path, settings={"timezone": "Australia/Lord_Howe"}) as server:
        check_everywhere(PostgresPlace(server))


@pytest.fixture(scope="module")
def far_mariadb(tmp_path_factory):
    """A MariaDB whose process, and so its SYSTEM zone, is in Berlin."""
    with MariaDB(
        tmp_path_factory.mktemp("far"), settings={"default_time_zone": "-09:30"}
    ) as server:
        yield server


def test_zone_of_the_mariadb_server_changes_nothing(far_mariadb):
    place = MariadbPlace(far_mariadb)
    assert place.sql("SELECT @@GLOBAL.time_zone") == [("-09:30",)]
    check_everywhere(place)
    far_mariadb.sql("SET GLOBAL time_zone = '+10:00'")
    assert all(state(place, place.store(), f"192.0.2.{n}") for n in (0, 10, 20, 30))


def load_berlin(server):
    """Give MariaDB the last hour of summer time and the first of winter time in Berlin."""
    server.sql("INSERT INTO mysql.time_zone (Time_zone_id, Use_leap_seconds) VALUES (900, 'N')")
    server.sql("INSERT INTO mysql.time_zone_name (Name, Time_zone_id) VALUES ('Test/Berlin', 900)")
    server.sql(
        "INSERT INTO mysql.time_zone_transition_type VALUES (900, 0, 7200, 1, 'CEST'),"
        " (900, 1, 3600, 0, 'CET')"
    )
    server.sql(
        f"INSERT INTO mysql.time_zone_transition VALUES (900, {FALL_BACK - 10**7}, 0),"
        f" (900, {FALL_BACK}, 1)"
    )


def test_hour_that_autumn_repeats_neither_opens_nor_closes(far_mariadb):
    load_berlin(far_mariadb)
    place = MariadbPlace(far_mariadb)
    store = place.created()
    query = lookup_text(Settings(database=store.database), ADDRESS)
    moments = range(FALL_BACK - 2 * 3600, FALL_BACK + 2 * 3600, 600)
    for seen in moments[::4]:
        login_store = place.freeze(place.store(), seen)
        removal.revoke(login_store, None)
        upsert.record(login_store, Login(ADDRESS))
        for now in moments:
            expected = -60 <= now - seen <= GRACE_S
            with contextlib.closing(place.session()) as postfix:
                cursor = postfix.cursor()
                cursor.execute("SET time_zone = 'Test/Berlin'")
                place.stop_clock(postfix, now)
                cursor.execute(query)
                assert bool(cursor.fetchall()) is expected, (seen, now)
        for now in (seen + GRACE_S, seen + GRACE_S + 1):
            later = place.freeze(place.store(), now)
            assert (queries.remaining_s(later, ADDRESS, GRACE_S) is not None) is (
                now - seen <= GRACE_S
            )
            assert removal.expire(later, GRACE_S) == (now - seen > GRACE_S)


def test_renewals_through_the_repeated_hour_move_forward(far_mariadb):
    place = MariadbPlace(far_mariadb)
    place.created()
    seen = []
    for now in range(FALL_BACK - 3600, FALL_BACK + 3700, 700):
        store = place.freeze(place.store(), now)
        upsert.record(store, Login(ADDRESS))
        upsert.record(store, Login(ADDRESS, "late", age_s=650))
        [row] = queries.rows(store, GRACE_S)
        assert row.user is None
        seen.append(row.last_seen)
    assert all(after - before == 700 for before, after in pairwise(seen))


def test_every_session_of_ours_on_mariadb_is_in_utc(mysql_place):
    with mysql_place.store().engine.connect() as connection:
        assert connection.execute(sa.text("SELECT @@time_zone")).scalar() == "+00:00"
