"""Expire deletes what is old and nothing else, whatever happens at the same moment."""

import contextlib
import re
import threading
import time

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.tombstone import REVOKED_S
from tests.store.places import ADDRESS, GRACE_S, LOCK_TABLE, OTHER, postfix_permits

OLD_S = 10 * GRACE_S


def put_many(place, count, seconds_ago=OLD_S, prefix="10"):
    """Insert rows in one statement, without our code."""
    values = ", ".join(
        f"('{prefix}.{n >> 16}.{n >> 8 & 255}.{n & 255}', {place.moment(seconds_ago)})"
        for n in range(count)
    )
    place.sql(f"INSERT INTO popbsmtp (address, last_seen) VALUES {values}")


def test_backlog_of_several_batches_goes_and_fresh_rows_stay(place):
    store = place.created(answer_s=30)
    count = 2 * store.dialect.expire_batch + 7
    put_many(place, count)
    put_many(place, 50, seconds_ago=60, prefix="192")
    assert removal.expired_count(store, GRACE_S) == count
    assert removal.expire(store, GRACE_S) == count
    assert removal.expire(store, GRACE_S) == 0
    assert len(place.addresses()) == 50


@pytest.mark.parametrize("more", [0, 1])
def test_batch_that_is_just_full_ends(place, more):
    store = place.created(answer_s=30)
    count = store.dialect.expire_batch + more
    put_many(place, count)
    assert removal.expire(store, GRACE_S) == count
    assert place.addresses() == []


def test_rows_without_a_time_or_from_the_future_stay(place):
    store = place.created()
    place.put(ADDRESS, -7200)
    assert removal.expire(store, GRACE_S) == 0
    assert place.addresses() == [ADDRESS]


@pytest.mark.parametrize("revived", [[ADDRESS], [ADDRESS, OTHER]])
def test_record_that_commits_while_expire_waits_is_not_deleted(place, revived):
    store = place.created(answer_s=20)
    for address in (ADDRESS, OTHER, "192.0.2.1"):
        place.put(address, OLD_S)
    deleted = []
    expirer = threading.Thread(target=lambda: deleted.append(removal.expire(store, GRACE_S)))
    with place.store(answer_s=20).engine.connect() as connection:
        with connection.begin():
            connection.execute(upsert.upsert(store, [Login(a, "ann") for a in revived]))
            expirer.start()
            # Long enough for the expirer to have chosen its rows, and to wait for one of them or,
            # on PostgreSQL, to leave those for the next time.
            time.sleep(0.7)
            assert expirer.is_alive() or place.kind == "postgresql"
        expirer.join(15)
    assert deleted == [3 - len(revived)]
    assert place.addresses() == sorted(revived)
    for address in revived:
        assert postfix_permits(store, address)


def test_record_that_waits_for_expire_makes_the_row_again(place):
    store = place.created(answer_s=20)
    place.put(ADDRESS, OLD_S)
    is_old = store.last_seen < store.dialect.ago(GRACE_S)
    recorder = threading.Thread(target=upsert.record, args=(place.store(20), Login(ADDRESS, "ann")))
    with store.engine.connect() as connection:
        with connection.begin():
            delete = store.table.delete().where(store.address.in_([ADDRESS])).where(is_old)
            assert connection.execute(delete).rowcount == 1
            recorder.start()
            time.sleep(0.5)
            assert recorder.is_alive()
        recorder.join(15)
    assert place.addresses() == [ADDRESS]
    assert postfix_permits(store, ADDRESS)


def test_record_between_choosing_and_deleting_is_not_deleted(place):
    store = place.created(answer_s=20)
    place.put(ADDRESS, OLD_S)
    place.put(OTHER, OLD_S)

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def _record(connection, cursor, statement, *rest):
        if statement.startswith("DELETE"):
            upsert.record(place.store(20), Login(ADDRESS, "ann"))

    assert removal.expire(store, GRACE_S) == 1
    assert place.addresses() == [ADDRESS]


def test_two_expirers_at_once_delete_each_row_once(place):
    put_many_store = place.created(answer_s=30)
    count = 4 * put_many_store.dialect.expire_batch
    put_many(place, count)
    put_many(place, 10, seconds_ago=60, prefix="192")
    start = threading.Barrier(3)
    deleted = []

    def expire():
        store = place.store(answer_s=30)
        start.wait()
        deleted.append(removal.expire(store, GRACE_S))

    threads = [threading.Thread(target=expire) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(deleted) == 3
    # Each may stop when the others took its last batch; what is left is nobody's loss.
    assert sum(deleted) + removal.expire(put_many_store, GRACE_S) == count
    assert len(place.addresses()) == 10


def test_logins_go_on_while_expire_runs(place):
    store = place.created(answer_s=30)
    put_many(place, 5 * store.dialect.expire_batch)
    expirer = threading.Thread(target=lambda: removal.expire(place.store(answer_s=30), GRACE_S))
    expirer.start()
    recorded = set()
    while expirer.is_alive() or len(recorded) < 20:
        n = len(recorded)
        for address in (f"10.0.{n % 20}.{n % 256}", f"192.0.2.{n % 256}"):
            upsert.record(store, Login(address), 20)
            recorded.add(address)
    expirer.join()
    assert set(place.addresses()) == recorded
    assert all(queries.remaining_s(store, address, GRACE_S) for address in sorted(recorded)[:5])


def test_expire_connects_once_and_closes_what_it_opened(place):
    put_store = place.created(answer_s=30)
    put_many(place, 3 * put_store.dialect.expire_batch)
    store = open_store(put_store.database, 30, stay_connected=True)
    opened, closed = [], []
    sa.event.listen(store.engine, "connect", lambda connection, _: opened.append(connection))
    sa.event.listen(store.engine, "close", lambda connection, _: closed.append(connection))
    removal.expire(store, GRACE_S)
    # SQLite keeps one open beside those of the batches.
    assert len(opened) == (2 if place.kind == "sqlite" else 1)
    assert sorted(map(id, closed)) == sorted(map(id, opened))


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_connection_that_is_lost_between_batches_is_made_again(places, kind):
    place = places.new(kind)
    count = 3 * place.created().dialect.expire_batch
    put_many(place, count)
    store = open_store(place.database, 30, stay_connected=True)
    numbers = []
    own, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[kind]

    @sa.event.listens_for(store.engine, "commit")
    def _lose(connection):
        numbers.append(connection.exec_driver_sql(own).scalar())
        if len(numbers) == 3:
            connection.connection.commit()
            place.sql(kill.format(numbers[-1]))

    assert removal.expire(store, GRACE_S) == count
    assert len(set(numbers)) == 2
    assert place.addresses() == []


def test_only_expire_commits_without_waiting_for_the_disk(postgres_place):
    store = postgres_place.created()
    postgres_place.put(ADDRESS, OLD_S)
    seen = []

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def _see(connection, cursor, statement, *rest):
        if statement.startswith(("DELETE", "INSERT")):
            cursor.execute("SHOW synchronous_commit")
            seen.append((statement.split()[0], cursor.fetchone()[0]))

    removal.expire(store, GRACE_S)
    upsert.record(store, Login(ADDRESS, "ann"))
    assert seen == [("DELETE", "off"), ("INSERT", "on")]


def statements_of_expire(store):
    seen = []

    @sa.event.listens_for(store.engine, "before_cursor_execute")
    def _see(connection, cursor, statement, parameters, *rest):
        seen.append((statement, parameters))

    removal.expire(store, GRACE_S)
    return [(s, p) for s, p in seen if "popbsmtp" in s]


def explain(place, store, statement, parameters):
    word = "EXPLAIN QUERY PLAN " if place.kind == "sqlite" else "EXPLAIN "
    with store.engine.connect() as connection:
        if place.kind == "postgresql":
            # With few rows a scan is right; the question is whether the index fits.
            connection.exec_driver_sql("SET enable_seqscan = off")
        rows = connection.exec_driver_sql(word + statement, parameters).fetchall()
    return "\n".join(" ".join(map(str, row)) for row in rows)


def test_expire_uses_the_index_and_limits_no_delete(place):
    store = place.created(answer_s=30)
    put_many(place, 3000, seconds_ago=60, prefix="192")
    put_many(place, 20)
    # Revocations between the two ranges, and some that nothing depends on any more.
    put_many(place, 500, seconds_ago=REVOKED_S + 60, prefix="11")
    put_many(place, 20, seconds_ago=REVOKED_S + 10 * OLD_S, prefix="12")
    place.sql("ANALYZE" if place.kind != "mysql" else "ANALYZE TABLE popbsmtp")
    statements = statements_of_expire(store)
    assert [statement.split()[0] for statement, _ in statements] == ["SELECT", "DELETE"] * 2
    for (select, select_values), (delete, delete_values) in zip(
        statements[::2], statements[1::2], strict=True
    ):
        plan = explain(place, store, select, select_values)
        assert "popbsmtp_last_seen" in plan
        assert not re.search(r"\bSCAN\b|Seq Scan| ALL ", plan)
        assert not re.search(r"\bLIMIT\b", delete)
        assert "last_seen" in delete, "the age is asked again"
        plan = explain(place, store, delete, delete_values)
        assert re.search("PRIMARY|pkey|popbsmtp_last_seen|INDEX", plan)
        assert not re.search(r"\bSCAN\b|Seq Scan| ALL ", plan)
    assert len(place.addresses()) == 3000
    assert len(place.revoked()) == 500


def test_lookup_and_list_use_the_keys(place):
    store = place.created()
    put_many(place, 2000, seconds_ago=60)
    place.sql("ANALYZE" if place.kind != "mysql" else "ANALYZE TABLE popbsmtp")
    from popbsmtp_wrap.config import Settings
    from tests.store.places import lookup_text

    query = lookup_text(Settings(database=store.database), "10.0.0.7")
    with contextlib.closing(store.engine.raw_connection()) as connection:
        cursor = connection.cursor()
        word = "EXPLAIN QUERY PLAN " if place.kind == "sqlite" else "EXPLAIN "
        cursor.execute(word + query)
        plan = str(cursor.fetchall())
    assert re.search("PRIMARY|pkey|autoindex", plan)


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_row_that_somebody_holds_stops_nothing_and_goes_the_next_time(places, kind):
    place = places.new(kind)
    store = place.created(answer_s=60)
    for number in range(1, 9):
        place.put(f"192.0.2.{number}", 10 * GRACE_S)
    with contextlib.closing(place.session()) as other:
        other.cursor().execute("UPDATE popbsmtp SET username = 'x' WHERE address = '192.0.2.5'")
        assert removal.expire(store, GRACE_S) == 7
        assert place.addresses() == ["192.0.2.5"]
        other.rollback()
    assert removal.expire(store, GRACE_S) == 1


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_table_that_somebody_holds_ends_expire(places, kind):
    place = places.new(kind)
    store = place.created(answer_s=5)
    for number in range(1, 5):
        place.put(f"192.0.2.{number}", 10 * GRACE_S)
    with contextlib.closing(place.session()) as other:
        other.cursor().execute(LOCK_TABLE[kind])
        with pytest.raises(StoreUnavailableError):
            removal.expire(store, GRACE_S)
    assert removal.expire(store, GRACE_S) == 4
