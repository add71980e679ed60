"""Records per second with a connection for each, against a bare driver.

Every process opens the store, records once, and is measured while it records new addresses in a
loop: record() connects, upserts, commits and closes each time, and so does the bare driver. CPU
time is the clients' alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bench.databases import TITLES, Place, Servers
from bench.figures import Cell, interleaved, median, print_table
from bench.processes import Elapsed, at_once
from bench.programs import new_address
from popbsmtp_wrap.login import make_login
from popbsmtp_wrap.store.upsert import record

ROUNDS = 5
# By one process, and by each of several; MariaDB's driver is the slow one (PyMySQL and TLS).
RECORDS: Final = {"sqlite": (200, 50), "postgresql": (100, 25), "mariadb": (30, 10)}
PROCESSES: Final = (1, 8)
_COLUMNS = "(address, last_seen, first_seen, username, service)"
_BARE = {
    "sqlite": f"INSERT INTO popbsmtp {_COLUMNS}"
    " VALUES (?, CAST(strftime('%s', 'now') AS INTEGER), CAST(strftime('%s', 'now') AS INTEGER),"
    " ?, ?) ON CONFLICT (address) DO UPDATE SET last_seen = excluded.last_seen",
    "postgresql": f"INSERT INTO popbsmtp {_COLUMNS} VALUES (%s, now(), now(), %s, %s)"
    " ON CONFLICT (address) DO UPDATE SET last_seen = excluded.last_seen",
    "mariadb": f"INSERT INTO popbsmtp {_COLUMNS} VALUES (%s, now(), now(), %s, %s)"
    " ON DUPLICATE KEY UPDATE last_seen = VALUES(last_seen)",
}

Step = Callable[[str], None]


def main(servers: Servers) -> None:
    """Print records per second as ratios to the bare driver."""
    rows: list[tuple[Cell, ...]] = []
    for kind, title in TITLES.items():
        place = servers.place(kind)
        steps = {"bare driver": partial(bare, place), "record()": partial(ours, place)}
        if kind.startswith("mariadb"):
            steps["bare driver, ssl_disabled"] = partial(bare, place, ssl_disabled=True)
        for count, each in zip(PROCESSES, RECORDS[kind.removesuffix("-socket")], strict=True):
            found = interleaved(
                {name: partial(loop, step, count, each) for name, step in steps.items()},
                ROUNDS,
            )
            rows += [row(title, count, each * count, name, found) for name in found]
            wanted = len(steps) * (ROUNDS + 1) * count * (each + 1)
            if place.count() != wanted:
                raise RuntimeError(f"{title}: {place.count()} rows, expected {wanted}")
            place.sql("DELETE FROM popbsmtp")
    header = (
        "database",
        "processes",
        "by",
        "records/s / bare",
        "CPU / bare",
        "n",
        "for the record",
    )
    print_table("records: one connection each, against a bare driver", header, rows)


def loop(prepare: Callable[[], Step], count: int, each: int) -> Elapsed:
    """Return what *count* processes take for *each* records."""

    def ready(addresses: list[str]) -> Callable[[], None]:
        step = prepare()
        step(addresses.pop())

        def run() -> None:
            for address in addresses:
                step(address)

        return run

    batches = [[new_address() for _ in range(each + 1)] for _ in range(count)]
    return at_once([partial(ready, batch) for batch in batches])


def ours(place: Place) -> Step:
    """Return what records an address with our store."""
    store = place.store()
    return lambda address: record(store, make_login(address, "alice", "imap"))


def bare(place: Place, **more: Any) -> Step:
    """Return what records an address with the driver alone."""
    statement = _BARE[place.kind.removesuffix("-socket")]

    def step(address: str) -> None:
        connection: Any = place.connect(**more)
        if place.kind == "sqlite":
            # As our store does.
            connection.execute("PRAGMA synchronous = EXTRA")
        connection.cursor().execute(statement, (address, "alice", "imap"))
        connection.commit()
        connection.close()

    return step


def row(
    title: str, count: int, records: int, name: str, found: dict[str, list[Elapsed]]
) -> tuple[Cell, ...]:
    """Return the table's row for one way of recording."""
    wall = {n: median(e.wall for e in runs) for n, runs in found.items()}
    cpu = {n: median(e.cpu for e in runs) for n, runs in found.items()}
    return (
        title,
        count,
        name,
        wall["bare driver"] / wall[name],
        cpu[name] / cpu["bare driver"],
        len(found[name]),
        f"{records / wall[name]:.0f}/s",
    )
