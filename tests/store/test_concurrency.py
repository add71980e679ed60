"""Thirty-two processes record at once."""

import multiprocessing
import traceback

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, upsert
from tests.store.places import ADDRESS, GRACE_S, postfix_permits

PROCESSES = 32
EACH = 8


def _record(place, number, addresses, barrier, results):
    store = place.store(answer_s=30)
    barrier.wait()
    try:
        for address in addresses:
            upsert.record(store, Login(address, f"user{number}", "imap"), 30)
        results.put(None)
    except Exception:  # noqa: BLE001 - the parent shows it
        results.put(traceback.format_exc())


def run(place, addresses_of):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(PROCESSES), context.SimpleQueue()
    children = [
        context.Process(target=_record, args=(place, n, addresses_of(n), barrier, results))
        for n in range(PROCESSES)
    ]
    for child in children:
        child.start()
    problems = [problem for problem in [results.get() for _ in children] if problem]
    for child in children:
        child.join()
    assert not problems, problems[0]


SPREAD = {
    "same": lambda _: [ADDRESS] * EACH,
    "different": lambda n: [f"10.0.{n}.{i}" for i in range(EACH)],
}


@pytest.mark.parametrize("spread", SPREAD)
def test_many_processes_at_once_lose_nothing(place, spread):
    store = place.created(answer_s=30)
    run(place, SPREAD[spread])
    expected = {address for n in range(PROCESSES) for address in SPREAD[spread](n)}
    rows = list(queries.rows(store, GRACE_S))
    assert {row.address for row in rows} == expected
    assert len(rows) == len(expected)
    assert all(row.service == "imap" and row.user.startswith("user") for row in rows)
    assert all(row.remaining_s > GRACE_S - 60 for row in rows)
    assert postfix_permits(store, rows[0].address)
    if spread == "different":
        assert all(row.user == f"user{row.address.split('.')[2]}" for row in rows)


def _batches(place, number, addresses, barrier, results):
    store = place.store(answer_s=30)
    barrier.wait()
    try:
        for turn in range(10):
            order = addresses if (turn + number) % 2 else addresses[::-1]
            batch = [Login(address, f"user{number}") for address in order]
            with store.engine.begin() as connection:
                connection.execute(upsert.upsert(store, batch))
        results.put(None)
    except Exception:  # noqa: BLE001 - the parent shows it
        results.put(traceback.format_exc())


def test_batches_in_opposite_order_do_not_deadlock(place):
    store = place.created(answer_s=30)
    addresses = [f"10.0.0.{i}" for i in range(40)]
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(4), context.SimpleQueue()
    children = [
        context.Process(target=_batches, args=(place, n, addresses, barrier, results))
        for n in range(4)
    ]
    for child in children:
        child.start()
    problems = [problem for problem in [results.get() for _ in children] if problem]
    for child in children:
        child.join()
    assert not problems, problems[0]
    assert {row.address for row in queries.rows(store, GRACE_S)} == set(addresses)
