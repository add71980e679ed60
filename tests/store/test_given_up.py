"""What a client gives up leaves nothing behind in the server."""

import time
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import upsert
from popbsmtp_wrap.store.batch import BatchWriter, Seen
from popbsmtp_wrap.store.engine import open_store
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.store.places import ADDRESS, LOCK_TABLE, Places

HOLDS = {
    "table": LOCK_TABLE["postgresql"],
    "index": "CREATE INDEX busy ON popbsmtp (service)",
    "row": "UPDATE popbsmtp SET username = 'x'",
}


def resident(place, answer_s=1.0):
    return BatchWriter(open_store(place.database, answer_s, stay_connected=True, autocommit=True))


def seen(*several):
    return [Seen(login, time.monotonic()) for login in several]


def backends(place):
    """Return what others than the tests themselves have the server do."""
    return place.server.sql(
        "SELECT pid, state, query FROM pg_stat_activity WHERE application_name = 'popbsmtp'"
        f" AND datname = '{place.name}'"
    )


@contextmanager
def held(place, statement):
    with closing(place.session()) as other:
        other.cursor().execute(statement)
        yield
        other.rollback()


def give_up(job):
    with pytest.raises(PopbsmtpError):
        job()


@pytest.mark.parametrize("hold", HOLDS)
def test_recording_process_leaves_no_backend(postgres_place, hold):
    postgres_place.created()
    postgres_place.put(ADDRESS, 60)
    store = postgres_place.store(answer_s=0.6)
    with held(postgres_place, HOLDS[hold]):
        for _ in range(3):
            give_up(lambda: upsert.record(store, Login(ADDRESS)))
        wait_until(lambda: not backends(postgres_place), 10, "the end of what was given up")


@pytest.mark.parametrize("hold", HOLDS)
def test_recorder_keeps_one_backend(postgres_place, hold):
    postgres_place.created()
    postgres_place.put(ADDRESS, 60)
    with closing(resident(postgres_place)) as writer, held(postgres_place, HOLDS[hold]):
        writer_may_fail = (writer.ping, lambda: writer.write(seen(Login(ADDRESS), Login("::1"))))
        for job in (*writer_may_fail, *writer_may_fail):
            try:
                job()
            except PopbsmtpError:
                assert hold != "row"
            assert not writer.write_at_once(seen(Login(ADDRESS)), 0.05)
        wait_until(lambda: len(backends(postgres_place)) <= 1, 10, "one backend at most")
        waiting = postgres_place.server.sql(
            "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            f" AND datname = '{postgres_place.name}'"
        )
        assert waiting == []


def test_a_probe_of_a_locked_table_stays_on_its_connection(postgres_place):
    postgres_place.created()
    with closing(resident(postgres_place)) as writer, held(postgres_place, HOLDS["table"]):
        give_up(writer.ping)
        before = backends(postgres_place)
        assert len(before) == 1
        for _ in range(3):
            give_up(writer.ping)
        assert [pid for pid, _, _ in backends(postgres_place)] == [pid for pid, _, _ in before]


def test_slow_statement_is_cancelled(postgres_place):
    store = postgres_place.created(answer_s=0.6)
    with pytest.raises(sa.exc.OperationalError, match="no answer"), store.engine.begin() as c:
        c.exec_driver_sql("SELECT pg_sleep(60)")
    wait_until(lambda: not backends(postgres_place), 10, "the end of pg_sleep")


@pytest.fixture(scope="module")
def without_standby(tmp_path_factory):
    """A server whose commits wait for a standby that is gone."""
    base = tmp_path_factory.mktemp("standby")
    places = Places(base)
    server = Postgres(base)
    server.start()
    places._servers["postgresql"] = server
    place = places.new("postgresql")
    place.created()
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
    server.sql("SELECT pg_reload_conf()")
    wait_until(
        lambda: server.sql("SHOW synchronous_standby_names") == [("gone",)], 10, "the setting"
    )
    yield place
    places.stop()


def test_commit_without_its_standby_is_none_and_leaves_no_backend(without_standby):
    store = without_standby.store(answer_s=0.6)
    for number in range(3):
        give_up(lambda number=number: upsert.record(store, Login(f"192.0.2.{number}")))
    with closing(resident(without_standby)) as writer:
        writer.ping()
        assert not writer.write_at_once(seen(Login("192.0.2.8")), 0.05)
        for _ in range(2):
            give_up(lambda: writer.write(seen(Login("192.0.2.9"), Login("192.0.2.10"))))
        wait_until(lambda: len(backends(without_standby)) <= 1, 10, "one backend at most")
    wait_until(lambda: not backends(without_standby), 10, "no backend")


def test_server_that_is_stopped_costs_no_more_than_the_time_of_an_answer(postgres_place):
    postgres_place.created()
    with closing(resident(postgres_place)) as writer:
        writer.ping()
        postgres_place.server.pause()
        try:
            for _ in range(6):
                began = time.monotonic()
                give_up(lambda: writer.write(seen(Login(ADDRESS))))
                assert time.monotonic() - began < 8
        finally:
            postgres_place.server.resume()
        wait_until(lambda: _writes(writer), 20, "a server that answers again")
    wait_until(lambda: not backends(postgres_place), 10, "no backend")


def _writes(writer):
    try:
        writer.write(seen(Login(ADDRESS)))
    except PopbsmtpError:
        return False
    return True


def test_connections_of_others_are_not_cancelled(postgres_place):
    postgres_place.created()
    with closing(postgres_place.session()) as other, closing(resident(postgres_place)) as writer:
        writer.ping()
        with held(postgres_place, HOLDS["table"]):
            give_up(lambda: upsert.record(postgres_place.store(answer_s=0.6), Login(ADDRESS)))
        cursor = other.cursor()
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]
        assert writer.write_at_once(seen(Login(ADDRESS)), 5)
