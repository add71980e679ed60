"""Sustained logins from distinct addresses through the recorder, against a connection for each.

The recorder is under load for LOAD_S seconds without a pause, once on each kind of socket, with
CLIENTS connections open all the time. Before, between and after the two, PROCESSES processes do the
same with the bare driver (connect, upsert, commit, close), for as long in all. No address comes
twice, so nothing is answered from memory. A login that is not in the table at the end is an error.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from bench.databases import TITLES, Place, Servers
from bench.figures import Cell, ms, percentile, print_table
from bench.load import ALLOTMENT, Load, by_processes, postlogin_talk, through_socket, wrapper_talk
from bench.records import bare
from bench.serving import Memory, MemoryWatch, Recorder, tree_cpu_s
from tests.harness.process import Server, wait_until

LOAD_S: Final = 60.0
# As many logins as Dovecot has in hand by default (default_process_limit).
CLIENTS: Final = 100
PROCESSES: Final = 8
KINDS: Final = ("postgresql", "mariadb")
# Before, between and after the loads.
_SLICES: Final = 3
_DRAINED_S: Final = 60.0
_BARE: Final = "bare driver"
# What PyMySQL does for TLS at each connection is most of its time, even where no server offers it.
_NO_TLS: Final = "bare driver, ssl_disabled"
_HEADER: Final = (
    *("database", "logins by", "logins/s / bare", "/ no TLS", "p50 / bare", "p99 / bare"),
    *("CPU ms: clients", "recorder", "database", "n", "for the record"),
)


class Cost(NamedTuple):
    """Logins, and the CPU seconds of the database and of the recorder for them."""

    load: Load
    database_s: float
    recorder_s: float
    memory: Memory | None


def main(servers: Servers) -> None:
    """Print logins per second as ratios to the bare driver."""
    rows: list[tuple[Cell, ...]] = []
    for kind in KINDS:
        found = measure(servers, kind)
        rows += [row(TITLES[kind], name, found) for name in found]
    print_table("recorder: logins from distinct addresses, sustained", _HEADER, rows)


def measure(servers: Servers, kind: str) -> dict[str, Cost]:
    """Return what logins into a database of *kind* cost, by who brings them there."""
    place = servers.place(kind)
    database: Server = servers.postgres if kind == "postgresql" else servers.mariadb
    recorder = Recorder(servers.base, place)
    servers.start(recorder)
    firsts = itertools.count(0, ALLOTMENT)
    steps = {_BARE: partial(bare, place)}
    if kind == "mariadb":
        steps[_NO_TLS] = partial(bare, place, ssl_disabled=True)
    slices: dict[str, list[Cost]] = {name: [] for name in steps}

    def take_slices() -> None:
        for name, step in steps.items():
            load = partial(
                by_processes, step, list(itertools.islice(firsts, PROCESSES)), LOAD_S / _SLICES
            )
            slices[name].append(costing(load, database))

    take_slices()
    found = {}
    for title, talk, path, descriptor in (
        ("wrapper's socket", wrapper_talk, recorder.socket, False),
        ("post-login socket", postlogin_talk, recorder.postlogin["imap"], True),
    ):
        load = partial(
            through_socket, path, talk, next(firsts), CLIENTS, LOAD_S, descriptor=descriptor
        )
        found[f"recorder, {title}"] = costing(load, database, recorder)
        take_slices()
    whole = {name: together(costs) for name, costs in slices.items()} | found
    expect_rows(place, recorder, whole)
    recorder.stop()
    return whole


def costing(load: Callable[[], Load], database: Server, recorder: Recorder | None = None) -> Cost:
    """Return what *load* costs."""
    database_s = tree_cpu_s(database)
    if recorder is None:
        return Cost(load(), tree_cpu_s(database) - database_s, 0.0, None)
    recorder_s = recorder.cpu_s()
    with MemoryWatch(recorder.pid) as memory:
        done = load()
    recorder_s = recorder.cpu_s() - recorder_s
    return Cost(done, tree_cpu_s(database) - database_s, recorder_s, memory.found)


def together(costs: list[Cost]) -> Cost:
    """Return several slices as one."""
    loads, database_s, recorder_s, _ = zip(*costs, strict=True)
    seconds = [s for load in loads for s in load.seconds]
    whole = Load(seconds, sum(load.wall for load in loads), sum(load.cpu for load in loads))
    return Cost(whole, sum(database_s), sum(recorder_s), None)


def expect_rows(place: Place, recorder: Recorder, found: dict[str, Cost]) -> None:
    """Raise RuntimeError or TimeoutError unless the table has every login that was answered."""
    wanted = sum(len(cost.load.seconds) for cost in found.values())
    wait_until(lambda: place.count() >= wanted, _DRAINED_S, f"{wanted} rows")
    status = recorder.status()
    outcomes = ", ".join(f"{count} {what}" for what, count in status["outcomes"].items())
    print(f"{place.kind}: {wanted} rows; recorder: {outcomes}, {status['batches']} commits")


def row(title: str, name: str, found: dict[str, Cost]) -> tuple[Cell, ...]:
    """Return the table's row for one way into one database."""
    cost, load, base = found[name], found[name].load, found[_BARE].load
    no_tls = found.get(_NO_TLS, found[_BARE]).load
    count = len(load.seconds)
    p50, p99 = (percentile(load.seconds, percent) for percent in (50, 99))
    remark = f"{load.rate:.0f}/s, p50 {ms(p50)} ms, p99 {ms(p99)} ms"
    if cost.memory is not None:
        remark += ", memory {:.0f} to {:.0f} MB, highest {:.0f}".format(*cost.memory)
    return (
        title,
        name,
        load.rate / base.rate,
        load.rate / no_tls.rate,
        p50 / percentile(base.seconds, 50),
        p99 / percentile(base.seconds, 99),
        *(f"{1000 * s / count:.3f}" for s in (load.cpu, cost.recorder_s, cost.database_s)),
        count,
        remark,
    )
