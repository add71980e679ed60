"""Sessions that go on keep the rows that are there, on every database."""

import threading
import time

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.engine import transaction
from popbsmtp_wrap.store.renewal import MOST, renew
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits

NOW = 1_800_000_000


def now():
    """Return the moment of a session that is open now, whatever time the test itself takes."""
    return time.monotonic() + 60


def row(store, address=ADDRESS):
    [found] = queries.rows(store, GRACE_S, address)
    return found


def test_renewal_moves_the_time_and_nothing_else(place):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    for later in (100, 200):
        store = place.freeze(place.store(), NOW + later)
        assert renew(store, [ADDRESS], now(), GRACE_S).rows == 1
        assert row(store) == queries.Row(ADDRESS, "ann", "imap", NOW, NOW + later, GRACE_S)


@pytest.mark.parametrize("away_s", [0, 600])
@pytest.mark.parametrize(("more_s", "renewed"), [(-1, 1), (0, 1), (1, 0), (10 * GRACE_S, 0)])
def test_second_before_at_and_after_the_oldest_a_row_is_renewed(place, away_s, more_s, renewed):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    later = place.freeze(place.store(), NOW + GRACE_S + away_s + more_s)
    assert renew(later, [ADDRESS, OTHER], now(), GRACE_S + away_s).rows == renewed
    assert postfix_permits(later, ADDRESS) is bool(renewed)
    assert removal.expire(later, GRACE_S) == 1 - renewed


def test_the_oldest_row_counts_from_when_the_session_was_seen(place):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    store = place.freeze(place.store(), NOW + GRACE_S + 30)
    assert renew(store, [ADDRESS], time.monotonic() - 60, GRACE_S).rows == 1


@pytest.mark.parametrize("all_of_them", [True, False])
def test_renewal_leaves_a_revoked_address_alone(place, store, all_of_them):
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert removal.revoke(store, None if all_of_them else [ADDRESS]) == 1
    assert renew(store, [ADDRESS], now(), GRACE_S).rows == 0
    assert renew(store, [ADDRESS], now(), 7 * 86400 + 3600).rows == 0
    assert place.revoked() == [ADDRESS]


def test_renewal_makes_no_row(place, store):
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert removal.revoke(store, [ADDRESS]) == 1
    assert renew(store, [ADDRESS, OTHER], now(), GRACE_S).rows == 0
    assert place.addresses() == []


def test_renewal_counts_from_when_the_session_was_seen(place):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    later = place.freeze(place.store(), NOW + 100)
    began = time.monotonic()
    renew(later, [ADDRESS], began - 29.5, GRACE_S)
    took_s = time.monotonic() - began
    assert NOW + 70 - took_s - 1 <= row(later).last_seen <= NOW + 70


def test_renewal_never_moves_a_time_back(place):
    upsert.record(place.freeze(place.created(), NOW), Login(ADDRESS, "ann", "imap"))
    store = place.freeze(place.store(), NOW + 10)
    assert renew(store, [ADDRESS], time.monotonic() - 60, GRACE_S).rows == 1
    assert row(store).last_seen == NOW


def test_renewal_sets_a_time_ahead_of_the_clock_right(place):
    upsert.record(place.freeze(place.created(), NOW + 7200), Login(ADDRESS, "ann", "imap"))
    store = place.freeze(place.store(), NOW)
    assert renew(store, [ADDRESS], now(), GRACE_S).rows == 1
    assert row(store).last_seen == NOW


def test_as_many_as_fit_are_renewed_with_one_statement(place, store):
    addresses = [f"2001:db8::{n:x}" for n in range(1, MOST + 1)]
    for address in addresses:
        place.put(address, GRACE_S - 100)
    assert renew(store, addresses, now(), GRACE_S).rows == MOST
    assert all(found.remaining_s > GRACE_S - 100 for found in queries.rows(store, GRACE_S))


def test_renewals_and_logins_at_once_lose_nothing(place):
    # SQLite's writers wait for each other's fsync.
    store = place.created(answer_s=20)
    # As sorted() has them, as a language has them, and as they lie in the table: all different.
    addresses = sorted([*(f"198.51.100.{n}" for n in range(1, 21)), "2001:db8::1", "2001:db8:1::"])
    for address in reversed(addresses):
        place.put(address, GRACE_S - 100)
    failed = []

    def run(work):
        try:
            for _ in range(60):
                work()
        except Exception as error:  # noqa: BLE001 - told below
            failed.append(repr(error))

    def login():
        with transaction(store) as connection:
            store.dialect.begin_write(connection.exec_driver_sql)
            batch = [Login(address, "bob", "imap") for address in reversed(addresses)]
            connection.execute(upsert.upsert(store, batch))

    works = [login, *[lambda: renew(store, addresses[::-1], now(), GRACE_S)] * 2]
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert place.addresses() == sorted(addresses)
    assert all(postfix_permits(store, address) for address in addresses)
