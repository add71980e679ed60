"""Real Dovecot: from the LOGIN (or PASS) command to its OK, with popbsmtp-wrap at each login.

Every login claims a new client address (login_trusted_networks), as the wrapper ignores 127.0.0.1
and the recorder answers for an address that it has just written from memory. What a login leaves
running is awaited before the next one is measured.
"""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial

from bench.databases import KINDS, TITLES, Servers
from bench.dovecots import Variant, plain, shell_script, wrapper
from bench.figures import Cell, interleaved, median, ms, print_table
from bench.serving import SERVICES, Recorder

ROUNDS = 15
PARALLEL = 20
PARALLEL_ROUNDS = 2
HEADER = (
    *("login", "at once", "at login", "median / none", "median / sh", "worst / none"),
    *("n", "for the record"),
)


def main(servers: Servers) -> None:
    """Print latencies as ratios to a Dovecot where nothing happens at a login."""
    variants = {"none": plain(servers), "sh": shell_script(servers)}
    recorder = Recorder(servers.base, servers.place("postgresql"))
    servers.start(recorder)
    with_recorder = wrapper(servers, recorder.place, recorder.conf)
    variants["wrapper, recorder"] = with_recorder
    for kind in KINDS:
        variants[f"wrapper, {TITLES[kind]}"] = wrapper(servers, servers.place(kind))
    table = latencies(variants, {1: ROUNDS, PARALLEL: PARALLEL_ROUNDS})
    recorded = recorder.status()["logins"]
    if recorded != {"wrapper": with_recorder.expected}:
        raise RuntimeError(f"the recorder has {recorded} of {with_recorder.expected} logins")
    print_table("login_latency: LOGIN to OK in Dovecot, with popbsmtp-wrap", HEADER, table)


def latencies(
    variants: Mapping[str, Variant], rounds: Mapping[int, int]
) -> Sequence[tuple[Cell, ...]]:
    """Return the table's rows; *rounds* is how often to measure, by how many logins at once."""
    rows = []
    for service in SERVICES:
        for count, times in rounds.items():
            runs = {name: partial(each.logins, service, count) for name, each in variants.items()}
            found = interleaved(runs, times)
            flat = {name: list(itertools.chain(*lists)) for name, lists in found.items()}
            rows += [row(service, count, name, flat) for name in flat]
    return rows


def row(service: str, count: int, name: str, found: dict[str, list[float]]) -> tuple[Cell, ...]:
    """Return the table's row for *name*."""
    own, none = found[name], found["none"]
    return (
        service,
        count,
        name,
        median(own) / median(none),
        median(own) / median(found["sh"]),
        max(own) / max(none),
        len(own),
        f"median {ms(median(own))} ms, worst {ms(max(own))} ms",
    )
