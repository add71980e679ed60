"""How long a login waits while `popbsmtp expire` deletes a backlog, and how fast that goes.

Three clients log in, each with pauses and with its own connection for every record: from new
addresses, from addresses that are fresh, and from the addresses that expire deletes next (the
oldest rows that are still visible, looked up before each record and outside of its time).
Expire works and stands still, between two batches, in turns: the logins with it are compared with
those without it in the same minute, so that what else the machine does slows both. An expire that
works longer than LONGEST_S is ended then.
"""

import gc
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address
from multiprocessing import get_context
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import Engine

from bench.backlog import ROWS, SHAPES, fill
from bench.databases import KINDS, TITLES, Place, Servers
from bench.figures import Cell, median, ms, percentile, print_table
from popbsmtp_wrap.login import make_login
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.removal import expire
from popbsmtp_wrap.store.upsert import record

TARGET_S: Final = 0.1
LONGEST_S: Final = 120.0
_BUSY_S: Final = 2.0
_CALM_S: Final = 1.0
# A batch that has begun comes to its end in that time; its logins are not counted.
_SETTLE_S: Final = 0.25
_PAUSE_S = 0.02
_WARM = 3
_PROBES: Final = ("new", "fresh", "expiring")
# The middle of a batch: its rows are locked by the DELETE that runs or comes next.
_IN_BATCH = 300
_CONTEXT = get_context("fork")
_SETTLING, _CALM, _BUSY = range(3)


class Waits(NamedTuple):
    """Seconds of each login of a probe, without expire and with it."""

    probe: str
    calm: list[float]
    busy: list[float]


class Run(NamedTuple):
    """The logins by probe, and what expire did in the time in which it worked."""

    waits: dict[str, Waits]
    deleted: int
    worked_s: float


class Turn:
    """Whose time it is, for all processes: expire works, stands still, or neither for sure."""

    def __init__(self) -> None:
        self.works = _CONTEXT.Event()
        self.ended = _CONTEXT.Event()
        self._phase = _CONTEXT.Value("i", _SETTLING)

    @property
    def phase(self) -> int:
        """_SETTLING, _CALM or _BUSY."""
        return int(self._phase.value)

    def give(self, phase: int, longest_s: float, process: Any) -> float:
        """Let expire work or not for *longest_s* or until *process* ends; return the seconds."""
        self._phase.value = _SETTLING
        if phase == _BUSY:
            self.works.set()
        else:
            self.works.clear()
            time.sleep(_SETTLE_S)
        started = time.monotonic()
        self._phase.value = phase
        process.join(longest_s)
        self._phase.value = _SETTLING
        return time.monotonic() - started


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
    """Return the waits during one expire of *place*."""
    turn = Turn()
    ready = _CONTEXT.Barrier(len(_PROBES) + 1)
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in _PROBES]
    clients = [
        _CONTEXT.Process(target=log_in, args=(place, probe, ready, turn, send))
        for probe, (_, send) in zip(_PROBES, pipes, strict=True)
    ]
    for client in clients:
        client.start()
    for _, send in pipes:
        send.close()  # else the end of a client that fails would not be seen
    ready.wait(60)
    try:
        worked_s = expire_in_turns(place, turn)
    finally:
        turn.ended.set()
    waits: list[Waits] = [receive.recv() for receive, _ in pipes]
    for client in clients:
        client.join()
    deleted = ROWS - place.count("popbsmtp WHERE address LIKE '10.%'")
    return Run({found.probe: found for found in waits}, deleted, worked_s)


def expire_in_turns(place: Place, turn: Turn) -> float:
    """Expire in a process of its own, as cron would run it; return the seconds that it worked."""
    process = _CONTEXT.Process(target=expire_when_it_may, args=(place, turn.works))
    process.start()
    worked_s = 0.0
    while process.exitcode is None and worked_s < LONGEST_S:
        turn.give(_CALM, _CALM_S, process)
        worked_s += turn.give(_BUSY, _BUSY_S, process)
    if process.exitcode is None:
        process.terminate()
        process.join()
    elif process.exitcode:
        raise RuntimeError("expire failed")
    return worked_s


def expire_when_it_may(place: Place, works: Any) -> None:
    """Expire as `popbsmtp expire` does, but stand still between two batches while it may not."""
    settings = place.settings
    store = open_store(settings.database, stay_connected=True)
    between_batches = store.dialect.expiring

    @contextmanager
    def expiring(engine: Engine) -> Iterator[Callable[[], object]]:
        with between_batches(engine) as work:
            works.wait()

            def work_and_wait() -> None:
                work()
                works.wait()

            yield work_and_wait

    store.dialect.expiring = expiring
    expire(store, settings.grace)


def log_in(place: Place, probe: str, ready: Any, turn: Turn, answer: Any) -> None:
    """Log in again and again until the turns end; send the Waits."""
    waits: dict[int, list[float]] = {_SETTLING: [], _CALM: [], _BUSY: []}
    # The store comes last: psycopg2's way of waiting is the same for a whole process.
    connection = place.connect()
    store = place.store()
    fresh = random_address()
    for _ in range(_WARM):
        record(store, make_login(fresh, "alice", "imap"))
    # What the fork has brought along is not looked at again: a full collection takes 50 ms, in all
    # clients at the same moment, and no real login's process lives to see one.
    gc.collect()
    gc.freeze()
    ready.wait(60)
    while not turn.ended.is_set():
        if probe == "new":
            address = random_address()
        elif probe == "fresh":
            address = fresh
        else:
            address = oldest(connection) or fresh
        login = make_login(address, "alice", "imap")
        phase = turn.phase
        started = time.perf_counter()
        record(store, login)
        waits[phase].append(time.perf_counter() - started)
        turn.ended.wait(_PAUSE_S)
    connection.close()
    answer.send(Waits(probe, waits[_CALM], waits[_BUSY]))


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
    _, calm, busy = run.waits[probe]
    remark = (
        f"p99 {ms(percentile(busy, 99))} ms, worst {ms(max(busy))} ms"
        f" (without {ms(max(calm))} ms); {run.deleted} rows, {run.deleted / run.worked_s:.0f}/s"
    )
    return (
        TITLES[kind],
        shape,
        probe,
        median(busy) / median(calm),
        percentile(busy, 99) / percentile(calm, 99),
        max(busy) / max(calm),
        f"{len(busy)} / {len(calm)}",
        f"{late(busy)} / {late(calm)}",
        remark,
    )


def late(waits: list[float]) -> int:
    """Return how many of *waits* are longer than TARGET_S."""
    return sum(wait > TARGET_S for wait in waits)
