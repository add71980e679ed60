"""A revoked address stays out until a login after the revocation, whichever process writes it."""

import threading
import time

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.batch import BatchWriter, Seen
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.tombstone import KEPT_MORE_S, REVOKED_S, revoked_now
from tests.harness.process import wait_until
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits

NOW = 1_800_000_000


def may_relay(store, address=ADDRESS):
    """Tell what a map, check and list say, which has to be the same."""
    found = {
        postfix_permits(store, address),
        queries.remaining_s(store, address, GRACE_S) is not None,
        any(row.may_relay for row in queries.rows(store, GRACE_S, address)),
    }
    assert len(found) == 1
    return found.pop()


def record(store, login):
    upsert.record(store, login)


def write(store, login):
    """Write *login* as the recorder does."""
    writer = BatchWriter(store)
    writer.write([Seen(login, time.monotonic())])
    writer.close()


WRITERS = pytest.mark.parametrize("writer", [record, write])


@WRITERS
@pytest.mark.parametrize("had_row", [True, False])
def test_a_login_from_before_the_revocation_does_not_count(place, writer, had_row):
    store = place.freeze(place.created(), NOW)
    if had_row:
        upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert removal.revoke(store, [ADDRESS]) == int(had_row)
    later = place.freeze(place.store(), NOW + 100)
    for age_s in (101, 102, 500, GRACE_S, GRACE_S + 1000, 10**9 - 1):
        writer(later, Login(ADDRESS, "eve", "imap", age_s))
        assert not may_relay(later)
    assert place.revoked() == [ADDRESS]
    assert list(queries.rows(later, GRACE_S)) == []


def record_late(store, login, since):
    upsert.record(store, login, since=since)


def write_late(store, login, since):
    writer = BatchWriter(store)
    writer.write([Seen(login, since)])
    writer.close()


def write_at_once_late(store, login, since):
    resident = open_store(store.database, 20, stay_connected=True, autocommit=True)
    writer = BatchWriter(resident)
    writer.ping()
    assert writer.write_at_once([Seen(login, since)], 5)
    writer.close()


@pytest.mark.parametrize("writer", [record_late, write_late, write_at_once_late])
def test_a_login_that_is_written_within_the_second_of_a_later_revocation_loses(place, writer):
    store = place.created()
    since = time.monotonic()
    time.sleep(0.5)
    removal.revoke(store, [ADDRESS])
    time.sleep(max(0.0, since + 0.7 - time.monotonic()))
    writer(store, Login(ADDRESS, "eve", "imap"), since)
    assert not may_relay(store)

    def counts_now():
        writer(store, Login(ADDRESS, "ann", "imap"), time.monotonic())
        return may_relay(store)

    # One from after it counts; where writing took long, in the second after the revocation's.
    wait_until(counts_now, 20, "a login that counts")


@WRITERS
def test_second_before_at_and_after_the_revocation_decide(place, writer):
    removal.revoke(place.freeze(place.created(), NOW), [ADDRESS])
    later = place.freeze(place.store(), NOW + 100)
    # Ages and clocks are whole seconds: one second after it is not yet after it.
    ages = (101, False), (100, False), (99, False), (98, True), (99, True)
    for age_s, permitted in ages:
        writer(later, Login(ADDRESS, "ann", "imap", age_s))
        assert may_relay(later) is permitted
    [row] = queries.rows(later, GRACE_S)
    assert (row.user, row.last_seen) == ("ann", NOW + 2)


@WRITERS
def test_a_login_of_now_counts_in_the_very_second_of_the_revocation(place, writer):
    store = place.freeze(place.created(), NOW)
    removal.revoke(store, [ADDRESS])
    writer(store, Login(ADDRESS, "ann", "imap"))
    # On a clock that stands still PostgreSQL cannot tell them apart either.
    assert may_relay(store)
    assert removal.revoke(store, [ADDRESS]) == 1
    assert not may_relay(store)


def test_revoke_and_login_by_turns_end_as_the_last_of_them(place, store):
    for _ in range(5):
        removal.revoke(store, [ADDRESS])
        assert not may_relay(store)
        upsert.record(store, Login(ADDRESS, "ann"))
        assert may_relay(store)


def test_a_batch_writes_the_others_and_leaves_the_revoked(place):
    store = place.freeze(place.created(), NOW)
    removal.revoke(store, [ADDRESS])
    later = place.freeze(place.store(), NOW + 10)
    writer, now = BatchWriter(later), time.monotonic()
    addresses = [ADDRESS, OTHER, "203.0.113.7"]
    outcome = writer.write([Seen(Login(a, "ann", None, 30), now) for a in addresses])
    assert outcome.refused == outcome.locked == ()
    assert [a for a in addresses if may_relay(later, a)] == addresses[1:]
    assert writer.missing(addresses, GRACE_S) == {ADDRESS}
    writer.close()


def test_missing_are_those_who_may_not_relay(place):
    store = place.created()
    place.put(OTHER, GRACE_S + 60)
    place.put("203.0.113.7", 60)
    writer = BatchWriter(store)
    removal.revoke(store, [ADDRESS])
    addresses = [ADDRESS, OTHER, "203.0.113.7", "203.0.113.8"]
    assert writer.missing(addresses, GRACE_S) == {ADDRESS, OTHER, "203.0.113.8"}
    writer.close()


def test_revoke_of_all_revokes_every_row(place):
    store = place.created(answer_s=30)
    addresses = [f"10.0.{n >> 8}.{n & 255}" for n in range(store.dialect.expire_batch + 50)]
    with store.engine.begin() as connection:
        connection.execute(upsert.upsert(store, [Login(a, "ann") for a in addresses]))
    assert removal.revoke(store, None) == len(addresses)
    assert removal.revoke(store, None) == 0
    assert place.addresses() == []
    assert place.revoked() == sorted(addresses)
    upsert.record(store, Login(addresses[0], "eve", None, age_s=60))
    assert place.addresses() == []
    upsert.record(store, Login(addresses[0], "ann"))
    assert place.addresses() == [addresses[0]]


@pytest.mark.parametrize("value", ["NULL", "future"])
def test_rows_that_an_old_script_left_are_revoked(place, value):
    store = place.created()
    place.put(ADDRESS, -7200)
    if value == "NULL":
        null = {
            "sqlite": "UPDATE popbsmtp SET last_seen = 'never'",
            "postgresql": "ALTER TABLE popbsmtp ALTER last_seen DROP NOT NULL",
            "mysql": "ALTER TABLE popbsmtp MODIFY last_seen TIMESTAMP NULL",
        }
        place.sql(null[place.kind])
        if place.kind != "sqlite":
            place.sql("UPDATE popbsmtp SET last_seen = NULL")
    assert removal.revoke(store, [ADDRESS]) == 1
    assert place.revoked() == [ADDRESS]
    upsert.record(store, Login(ADDRESS, age_s=600))
    assert not may_relay(store)


@pytest.mark.parametrize("left_out", ["first_seen_column", "user_column", "service_column"])
def test_adopted_tables_need_no_column_more(place, left_out):
    store = place.created(**{left_out: ""})
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert removal.revoke(store, [ADDRESS, OTHER]) == 1
    for address in (ADDRESS, OTHER):
        upsert.record(store, Login(address, "ann", "imap", age_s=60))
        assert not may_relay(store, address)


def test_expire_keeps_a_revocation_as_long_as_a_login_from_before_counts(place):
    removal.revoke(place.freeze(place.created(), NOW), [ADDRESS])
    kept_s = GRACE_S + KEPT_MORE_S
    for age_s, deleted in ((0, 0), (GRACE_S, 0), (kept_s, 0), (kept_s + 1, 1)):
        store = place.freeze(place.store(), NOW + age_s)
        assert removal.expired_count(store, GRACE_S) == deleted
        assert removal.expire(store, GRACE_S) == deleted
    assert place.sql("SELECT count(*) FROM popbsmtp") == [(0,)]


def test_a_clock_that_was_ahead_does_not_keep_an_address_out(place):
    removal.revoke(place.freeze(place.created(), NOW + 7200), [ADDRESS])
    store = place.freeze(place.store(), NOW)
    upsert.record(store, Login(ADDRESS, "ann"))
    assert may_relay(store)


def test_an_old_login_is_not_taken_for_a_revocation(place):
    store = place.created()
    place.put(ADDRESS, 10 * 365 * 86400)
    place.put(OTHER, REVOKED_S + 2 * 366 * 86400)
    assert {row.address for row in queries.rows(store, GRACE_S)} == {ADDRESS, OTHER}
    for address in (ADDRESS, OTHER):
        upsert.record(store, Login(address, "ann", age_s=60))
        assert may_relay(store, address)


def test_a_login_that_waits_while_its_address_is_revoked_loses(place):
    """It was before the revocation, however late it is written."""
    store, other = place.created(answer_s=20), place.store(answer_s=20)
    place.put(ADDRESS, 60)
    login = threading.Thread(target=upsert.record, args=(other, Login(ADDRESS, "ann"), 20))
    row = store.table.update().where(store.address == ADDRESS)
    with store.engine.begin() as connection:
        store.dialect.begin_write(connection.exec_driver_sql)
        connection.execute(row.values({store.last_seen: store.dialect.ago(60)}))
        login.start()
        time.sleep(3)
        assert login.is_alive()
        connection.execute(row.values({store.last_seen: revoked_now(store)}))
    login.join(30)
    assert place.revoked() == [ADDRESS]


def test_revoke_that_waits_for_a_row_counts_from_when_it_has_it(place):
    store, other = place.created(answer_s=20), place.store(answer_s=20)
    place.put(ADDRESS, 60)
    revoke = threading.Thread(target=removal.revoke, args=(other, [ADDRESS]))
    with store.engine.begin() as connection:
        store.dialect.begin_write(connection.exec_driver_sql)
        connection.execute(upsert.upsert(store, [Login(ADDRESS, "ann")]))
        revoke.start()
        time.sleep(3.5)
    revoke.join(30)
    # This one was while the revocation waited.
    upsert.record(store, Login(ADDRESS, "eve", age_s=2))
    assert not may_relay(store)
