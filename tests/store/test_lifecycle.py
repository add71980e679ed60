"""A login from its first record to its end, on every database."""

import multiprocessing
import os
import signal
import time

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits

NOW = 1_800_000_000


def only_row(store, grace_s=GRACE_S):
    [row] = queries.rows(store, grace_s)
    return row


def test_login_opens_the_relay_and_its_end_closes_it(place):
    store = place.created()
    assert queries.remaining_s(store, ADDRESS, GRACE_S) is None
    assert not postfix_permits(store, ADDRESS)
    for _ in range(2):
        upsert.record(store, Login(ADDRESS, "ann", "imap"))
        assert GRACE_S - 5 <= queries.remaining_s(store, ADDRESS, GRACE_S) <= GRACE_S
        assert postfix_permits(store, ADDRESS)
        assert not postfix_permits(store, OTHER)
    assert removal.revoke(store, [ADDRESS]) == 1
    assert removal.revoke(store, [ADDRESS]) == 0
    assert not postfix_permits(store, ADDRESS)
    assert place.addresses() == []
    assert place.revoked() == [ADDRESS]


@pytest.mark.parametrize(
    ("age_s", "permitted"),
    [(0, True), (GRACE_S - 1, True), (GRACE_S, True), (GRACE_S + 1, False), (10 * GRACE_S, False)],
)
def test_second_before_at_and_after_grace(place, age_s, permitted):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    later = place.freeze(place.store(), NOW + age_s)
    left_s = queries.remaining_s(later, ADDRESS, GRACE_S)
    assert left_s == (GRACE_S - age_s if permitted else None)
    assert postfix_permits(later, ADDRESS) is permitted
    row = only_row(later)
    assert (row.last_seen, row.remaining_s) == (NOW, GRACE_S - age_s)
    for _ in range(2):
        assert removal.expired_count(later, GRACE_S) == (0 if permitted else 1)
    assert removal.expire(later, GRACE_S) == (0 if permitted else 1)
    assert removal.expire(later, GRACE_S) == 0
    assert place.addresses() == ([ADDRESS] if permitted else [])


def test_second_login_renews_the_first(place):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    upsert.record(place.freeze(place.store(), NOW + 100), Login(ADDRESS, "bob", "pop3"))
    row = only_row(place.freeze(place.store(), NOW + 150))
    assert row == queries.Row(ADDRESS, "bob", "pop3", NOW, NOW + 100, GRACE_S - 50)


def test_login_without_a_user_forgets_the_one_before(store):
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    upsert.record(store, Login(ADDRESS))
    row = only_row(store)
    assert (row.user, row.service) == (None, None)


@pytest.mark.parametrize("times", [1, 2])
def test_late_record_counts_from_the_login_itself(place, times):
    store = place.freeze(place.created(), NOW)
    for _ in range(times):
        upsert.record(store, Login(ADDRESS, "ann", "imap", age_s=600))
    assert only_row(store) == queries.Row(
        ADDRESS, "ann", "imap", NOW - 600, NOW - 600, GRACE_S - 600
    )


def test_late_record_changes_nothing_about_a_newer_login(place):
    store = place.freeze(place.created(), NOW)
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    before = only_row(store)
    for age_s in (1, 600, 10**6):
        upsert.record(store, Login(ADDRESS, "bob", "pop3", age_s=age_s))
        assert only_row(store) == before


def test_late_record_that_is_newer_moves_last_seen_forward(place):
    store = place.freeze(place.created(), NOW)
    upsert.record(store, Login(ADDRESS, "ann", "imap", age_s=900))
    upsert.record(store, Login(ADDRESS, "bob", "pop3", age_s=300))
    row = only_row(store)
    assert (row.user, row.last_seen) == ("bob", NOW - 300)


def test_record_that_waited_for_another_does_not_move_it_back(place):
    # now() is the start of the transaction or statement, so one that waits for the row's lock
    # has an older clock than the one that it waits for.
    later, earlier = place.created(), place.store()
    upsert.record(place.freeze(later, NOW + 4), Login(ADDRESS, "bob"))
    upsert.record(place.freeze(earlier, NOW), Login(ADDRESS, "ann"))
    row = only_row(later)
    assert (row.user, row.last_seen) == ("bob", NOW + 4)


@pytest.mark.parametrize("ahead_s", [61, 3600, 10 * 365 * 86400 // 2])
def test_time_in_the_future_opens_nothing_and_does_not_stay(place, ahead_s):
    store = place.created()
    place.put(ADDRESS, -ahead_s - 30)
    assert queries.remaining_s(store, ADDRESS, GRACE_S) is None
    assert not postfix_permits(store, ADDRESS)
    upsert.record(store, Login(ADDRESS, "ann"))
    row = only_row(store)
    assert row.user == "ann"
    assert GRACE_S - 5 <= row.remaining_s <= GRACE_S
    assert postfix_permits(store, ADDRESS)


def test_batch_records_each_address_once_with_its_newest_login(place):
    store = place.freeze(place.created(), NOW)
    batch = [
        Login(OTHER, "eve", "imap"),
        Login(ADDRESS, "old", "pop3", age_s=60),
        Login(ADDRESS, "new", "imap", age_s=5),
        Login(ADDRESS, "older", "pop3", age_s=90),
    ]
    for _ in range(2):
        with store.engine.begin() as connection:
            connection.execute(upsert.upsert(store, batch))
        found = {row.address: (row.user, row.last_seen) for row in queries.rows(store, GRACE_S)}
        assert found == {OTHER: ("eve", NOW), ADDRESS: ("new", NOW - 5)}


def test_rows_come_newest_first_or_one_alone(place):
    store = place.freeze(place.created(), NOW)
    for age_s in (30, 10, 20):
        upsert.record(store, Login(f"192.0.2.{age_s}", age_s=age_s))
    found = [row.address for row in queries.rows(store, GRACE_S)]
    assert found == ["192.0.2.10", "192.0.2.20", "192.0.2.30"]
    assert [row.remaining_s for row in queries.rows(store, 15)] == [5, -5, -15]
    [row] = queries.rows(store, GRACE_S, "192.0.2.20")
    assert row.last_seen == NOW - 20
    assert list(queries.rows(store, GRACE_S, ADDRESS)) == []


def test_revoke_takes_some_or_all(place, store):
    for number in range(5):
        upsert.record(store, Login(f"192.0.2.{number}"))
    assert removal.revoke(store, []) == 0
    assert removal.revoke(store, ["192.0.2.1", "192.0.2.3", "192.0.2.3", ADDRESS]) == 2
    assert place.addresses() == ["192.0.2.0", "192.0.2.2", "192.0.2.4"]
    assert removal.revoke(store, None) == 3
    assert removal.revoke(store, None) == 0


def test_planted_name_or_prefix_opens_nothing_to_ipv4_keys(place, store):
    from contextlib import closing

    from popbsmtp_wrap.config import Settings
    from tests.store.places import lookup_text

    settings = Settings(database=store.database)
    for key in ("unknown", "198.51.100", "198", "mail.example.net", ADDRESS, "1.2.3.4.5", OTHER):
        place.put(key, 5)
    for key, permitted in [(ADDRESS, True), ("198", False), ("198.51.100", False)] + [
        (key, False) for key in ("unknown", "mail.example.net", "1.2.3.4.5", OTHER, "1.2.3.x")
    ]:
        with closing(store.engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(lookup_text(settings, key, only_ipv4=True))
            assert bool(cursor.fetchall()) is permitted, key


def _killed_half_way(place, statement_done):
    store = place.store()
    with store.engine.begin() as connection:
        connection.execute(upsert.upsert(store, [Login(ADDRESS, "half")]))
        statement_done.set()
        time.sleep(60)


def test_record_killed_half_way_leaves_the_row_as_it_was_and_no_lock(place):
    store = place.freeze(place.created(), NOW)
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    before = only_row(store)
    context = multiprocessing.get_context("fork")
    statement_done = context.Event()
    child = context.Process(target=_killed_half_way, args=(place, statement_done))
    child.start()
    assert statement_done.wait(10)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert only_row(store) == before
    upsert.record(place.store(), Login(ADDRESS, "bob"))
    assert only_row(place.store()).user == "bob"
