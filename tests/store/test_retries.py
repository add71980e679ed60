"""Deadlocks, lock time-outs and lost connections are tried again, within bounds."""

import contextlib
import socket
import threading
import time

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, upsert
from popbsmtp_wrap.store.engine import ping, retrying
from tests.store.places import ADDRESS, GRACE_S, OTHER


@pytest.fixture(params=["postgresql", "mysql"])
def server_place(request, places):
    return places.new(request.param)


def update(address, user):
    return sa.text(f"UPDATE popbsmtp SET username = '{user}' WHERE address = '{address}'")


def test_victim_of_a_real_deadlock_succeeds_the_second_time(server_place):
    store = server_place.created(answer_s=20)
    for address in (ADDRESS, OTHER):
        upsert.record(store, Login(address))
    both_hold_one = threading.Barrier(2)
    attempts = []

    def work(first, second, user):
        def transaction(connection):
            attempts.append(user)
            connection.execute(update(first, user))
            if attempts.count(user) == 1:
                both_hold_one.wait(10)
            connection.execute(update(second, user))
            return user

        return retrying(store, transaction, 15)

    results = []
    threads = [
        threading.Thread(target=lambda o=order: results.append(work(*o)))
        for order in ((ADDRESS, OTHER, "one"), (OTHER, ADDRESS, "two"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == ["one", "two"]
    assert len(attempts) == 3
    assert len({row.user for row in queries.rows(store, GRACE_S)}) == 1


def short_lock_wait(store):
    setting = {
        "postgresql": "SET lock_timeout = '300ms'",
        "mysql": "SET innodb_lock_wait_timeout = 1",
    }[store.dialect.name]

    @sa.event.listens_for(store.engine, "begin")
    def _begin(connection):
        connection.exec_driver_sql(setting)


def test_lock_time_out_is_tried_again_until_the_row_is_free(server_place):
    store = server_place.created(answer_s=10)
    upsert.record(store, Login(ADDRESS, "ann", age_s=60))  # what waits is rounded up
    short_lock_wait(store)
    failures = count_failures(store)
    with contextlib.closing(server_place.session()) as other:
        other.cursor().execute(update(ADDRESS, "other").text)
        ends = threading.Timer(1.5, other.commit)
        ends.start()
        upsert.record(store, Login(ADDRESS, "bob"), 8)
        ends.join()
    assert 1 <= len(failures) <= 4
    [row] = queries.rows(store, GRACE_S)
    assert row.user == "bob"


def test_lock_that_stays_is_given_up_in_bounded_time(server_place):
    store = server_place.created()
    upsert.record(store, Login(ADDRESS, "ann"))
    short_lock_wait(store)
    failures = count_failures(store)
    with contextlib.closing(server_place.session()) as other:
        other.cursor().execute(update(ADDRESS, "other").text)
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            upsert.record(store, Login(ADDRESS, "bob"))
        assert time.monotonic() - started < 4.5
    assert 2 <= len(failures) <= 5


def count_failures(store):
    failures = []
    sa.event.listen(store.engine, "handle_error", failures.append)
    return failures


@pytest.mark.parametrize("times", [1, 3])
def test_killed_connection_is_made_again(server_place, times):
    store = server_place.created()
    killed = []
    own, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[server_place.kind]

    @sa.event.listens_for(store.engine, "begin")
    def _begin(connection):
        if len(killed) < times:
            number = connection.exec_driver_sql(own).scalar()
            server_place.sql(kill.format(number))
            killed.append(number)
            time.sleep(0.05)

    upsert.record(store, Login(ADDRESS, "ann"))
    assert len(set(killed)) == times
    [row] = queries.rows(store, GRACE_S)
    assert row.user == "ann"


def test_connection_that_is_always_killed_is_given_up(server_place):
    store = server_place.created()
    attempts = []
    own, kill = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[server_place.kind]

    @sa.event.listens_for(store.engine, "begin")
    def _begin(connection):
        number = connection.exec_driver_sql(own).scalar()
        server_place.sql(kill.format(number))
        attempts.append(number)
        time.sleep(0.02)

    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        upsert.record(store, Login(ADDRESS, "ann"))
    assert 2 <= len(attempts) <= 5
    assert time.monotonic() - started < 4.5


def test_busy_sqlite_file_is_tried_again(sqlite_place):
    store = sqlite_place.created(answer_s=5)
    failures = count_failures(store)

    @sa.event.listens_for(store.engine, "connect")
    def _impatient(connection, record):
        connection.execute("PRAGMA busy_timeout = 10")

    other = sqlite_place.session()
    with contextlib.closing(other):
        other.execute("BEGIN IMMEDIATE")

        @sa.event.listens_for(store.engine, "handle_error")
        def _free(context):
            if len(failures) == 2:
                other.rollback()

        upsert.record(store, Login(ADDRESS, "ann"))
    assert len(failures) == 2
    assert sqlite_place.addresses() == [ADDRESS]


def test_standstill_of_the_network_is_not_tried_for_ever(server_place):
    store = server_place.created()
    upsert.record(store, Login(ADDRESS))
    server_place.server.pause()
    try:
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            upsert.record(store, Login(ADDRESS))
        assert time.monotonic() - started < 4.5
    finally:
        server_place.server.resume()
    upsert.record(store, Login(ADDRESS))


def test_threads_with_stores_of_their_own_do_not_disturb_each_other(server_place):
    server_place.created()
    problems = []

    def record(number):
        store = server_place.store(answer_s=20)
        for turn in range(15):
            try:
                upsert.record(store, Login(f"10.0.{number}.{turn}"))
            except StoreUnavailableError as error:
                problems.append(error)

    threads = [threading.Thread(target=record, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not problems
    assert len(server_place.addresses()) == 90


def test_store_changes_nothing_for_other_connections_of_the_process(postgres_place):
    upsert.record(postgres_place.created(answer_s=0.2), Login(ADDRESS))
    assert postgres_place.sql("SELECT pg_sleep(0.5), 1")[0][1] == 1


def test_answer_that_takes_too_long_is_given_up(server_place):
    server_place.created()
    store = server_place.store(answer_s=1)
    seconds = {"postgresql": "pg_sleep(4)", "mysql": "SLEEP(4)"}[server_place.kind]
    started = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        retrying(store, lambda connection: connection.exec_driver_sql(f"SELECT {seconds}"))
    assert 0.9 < time.monotonic() - started < 2.5


def test_silent_first_host_is_passed_over(postgres_place):
    postgres_place.created()
    server = postgres_place.server
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:{silent.getsockname()[1]}&host=127.0.0.1:{server.port}"
        url = f"postgresql://postgres:{server.password}@/{postgres_place.name}?host={hosts}"
        upsert.record(postgres_place.store(url=url, connect_timeout=0.5), Login(ADDRESS))
    assert postgres_place.addresses() == [ADDRESS]


def test_name_with_several_addresses_is_reached(postgres_place):
    postgres_place.created()
    url = postgres_place.database.url.replace("127.0.0.1", "localhost")
    upsert.record(postgres_place.store(url=url), Login(ADDRESS))
    with pytest.raises(StoreUnavailableError, match=r"no-such-host\.invalid"):
        ping(postgres_place.store(url=url.replace("localhost", "no-such-host.invalid")))
