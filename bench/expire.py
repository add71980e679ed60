"""How long a login waits while `popbsmtp expire` deletes a backlog, and how fast that goes.

Three clients log in during it, each with pauses and with its own connection for every record:
from new addresses, from addresses that are fresh, and from the addresses that expire deletes next
(the oldest rows that are still visible, looked up before each record and outside of its time).
The same clients log in without expire before and after it, for comparison. An expire that takes
longer than LONGEST_S is ended then; its rows per second are those that it had deleted.
"""

import secrets
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

from bench.backlog import ROWS, SHAPES, fill
from bench.databases import KINDS, TITLES, Place, Servers
from bench.figures import Cell, median, ms, percentile, print_table
from popbsmtp_wrap.login import make_login
from popbsmtp_wrap.store.logins import expire, record

TARGET_S: Final = 0.1
LONGEST_S: Final = 120.0
_CALM_S: Final = 3.0
_PAUSE_S = 0.02
_PROBES: Final = ("new", "fresh", "expiring")
# The middle of a batch: its rows are locked by the DELETE that runs or comes next.
_IN_BATCH = 300
_CONTEXT = get_context("fork")


class Waits(NamedTuple):
    """Seconds of each login of a probe."""

    probe: str
    seconds: list[float]


class Run(NamedTuple):
    """Logins without and with expire, and what expire did."""

    calm: dict[str, list[float]]
    busy: dict[str, list[float]]
    deleted: int
    took_s: float


def main(servers: Servers) -> None:
    """Print waits with expire as ratios to those without."""
    rows: list[tuple[Cell, ...]] = []
    for kind in KINDS:
        for shape in SHAPES:
            place = servers.place(kind)
            fill(place, shape)
            run = measure(place)
            rows += [row(kind, shape, probe, run) for probe in _PROBES]
            place.sql("DROP TABLE popbsmtp")
    header = (
        *("database", "last_seen", "address", "median", "p99", "worst", "n"),
        *("over 100 ms", "for the record"),
    )
    print_table(f"expire: logins while {ROWS} rows go, with / without", header, rows)


def measure(place: Place) -> Run:
    """Return the waits before, during and after one expire of *place*."""
    before = probing(place, lambda: time.sleep(_CALM_S / 2))
    started = time.monotonic()
    busy = probing(place, partial(expire_in_process, place))
    took_s = time.monotonic() - started
    deleted = ROWS - place.count("popbsmtp WHERE address LIKE '10.%'")
    after = probing(place, lambda: time.sleep(_CALM_S / 2))
    calm = {probe: before[probe] + after[probe] for probe in _PROBES}
    return Run(calm, busy, deleted, took_s)


def expire_in_process(place: Place) -> None:
    """Expire in a process of its own, as cron would run it; end it after LONGEST_S."""
    process = _CONTEXT.Process(target=lambda: expire(place.store(), place.settings.grace))
    process.start()
    process.join(LONGEST_S)
    if process.exitcode is None:
        process.terminate()
        process.join()
    elif process.exitcode:
        raise RuntimeError("expire failed")


def probing(place: Place, work: Callable[[], None]) -> dict[str, list[float]]:
    """Return the seconds of each login, by probe, that began while *work* ran."""
    stop = _CONTEXT.Event()
    ready = _CONTEXT.Barrier(len(_PROBES) + 1)
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in _PROBES]
    clients = [
        _CONTEXT.Process(target=log_in, args=(place, probe, ready, stop, send))
        for probe, (_, send) in zip(_PROBES, pipes, strict=True)
    ]
    for client in clients:
        client.start()
    for _, send in pipes:
        send.close()  # else the end of a client that fails would not be seen
    ready.wait(60)
    try:
        work()
    finally:
        stop.set()
    waits: list[Waits] = [receive.recv() for receive, _ in pipes]
    for client in clients:
        client.join()
    return {found.probe: found.seconds for found in waits}


def log_in(place: Place, probe: str, ready: Any, stop: Any, answer: Any) -> None:
    """Log in again and again until *stop*; send the Waits."""
    seconds: list[float] = []
    # The store comes last: psycopg2's way of waiting is the same for a whole process.
    connection = place.connect()
    store = place.store()
    fresh = random_address()
    record(store, make_login(fresh, "alice", "imap"))
    ready.wait(60)
    while not stop.is_set():
        if probe == "new":
            address = random_address()
        elif probe == "fresh":
            address = fresh
        else:
            address = oldest(connection) or fresh
        login = make_login(address, "alice", "imap")
        started = time.perf_counter()
        record(store, login)
        seconds.append(time.perf_counter() - started)
        stop.wait(_PAUSE_S)
    connection.close()
    answer.send(Waits(probe, seconds))


def random_address() -> str:
    """Return an address in 2001:db8::/32 (RFC 3849) that no other process has."""
    return str(IPv6Address((0x20010DB8 << 96) + secrets.randbits(64)))


def oldest(connection: Any) -> str | None:
    """Return an address that expire deletes next, None when the table is almost empty."""
    cursor = connection.cursor()
    cursor.execute(f"SELECT address FROM popbsmtp ORDER BY last_seen LIMIT 1 OFFSET {_IN_BATCH}")
    found = cursor.fetchone()
    connection.rollback()
    return str(found[0]) if found else None


def row(kind: str, shape: str, probe: str, run: Run) -> tuple[Cell, ...]:
    """Return the table's row for one kind of login."""
    calm, busy = run.calm[probe], run.busy[probe]
    remark = (
        f"p99 {ms(percentile(busy, 99))} ms, worst {ms(max(busy))} ms"
        f" (without {ms(max(calm))} ms); {run.deleted} rows, {run.deleted / run.took_s:.0f}/s"
    )
    late = sum(wait > TARGET_S for wait in busy)
    return (
        TITLES[kind],
        shape,
        probe,
        median(busy) / median(calm),
        percentile(busy, 99) / percentile(calm, 99),
        max(busy) / max(calm),
        len(busy),
        late,
        remark,
    )
