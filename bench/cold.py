"""Many logins at once while no recorder runs: how much longer than one the last of them waits."""

import subprocess
import time
from functools import partial

from bench.databases import KINDS, TITLES, Place, Servers
from bench.figures import Cell, interleaved, median, ms, print_table
from bench.programs import PROGRAM, WRAPPER, login_environment
from bench.wrapper import cold_conf

ROUNDS = 7
PARALLEL = 20
_ENDED_S = 60.0
HEADER = ("logins at once, database", "last / one", "n", "for the record")


def main(servers: Servers) -> None:
    """Print when the last of PARALLEL programs runs, as a ratio to one alone."""
    places = {TITLES[kind]: servers.place(kind) for kind in KINDS}
    runs = {
        f"{count}, {title}": partial(last_s, place, cold_conf(place), count)
        for title, place in places.items()
        for count in (1, PARALLEL)
    }
    found = interleaved(runs, ROUNDS)
    rows: list[tuple[Cell, ...]] = []
    for title in places:
        one = median(found[f"1, {title}"])
        for count in (1, PARALLEL):
            own = found[f"{count}, {title}"]
            note = f"median {ms(median(own))} ms, worst {ms(max(own))} ms"
            rows.append((f"{count}, {title}", median(own) / one, len(own), note))
    print_table("cold: logins at once without a recorder", HEADER, rows)


def last_s(place: Place, conf: str, count: int) -> float:
    """Return the seconds until all of *count* programs have run; wait for rows and recorder."""
    rows = place.count()
    argv = [WRAPPER, "--config", conf, "--wait", "30", PROGRAM]
    environments = [login_environment() for _ in range(count)]
    began = time.perf_counter()
    wrappers = [
        subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE)
        for environment in environments
    ]
    complaints = b"".join(one.communicate()[1] for one in wrappers)
    ended = time.perf_counter()
    if complaints or place.count() != rows + count:
        raise RuntimeError(f"{place.kind}: {place.count() - rows} of {count} rows; {complaints!r}")
    wait_for_end(conf)
    return ended - began


def wait_for_end(conf: str) -> None:
    """Return when no process names *conf*: the next login is a first one again."""
    deadline = time.monotonic() + _ENDED_S
    search = ["pgrep", "-f", conf]
    while subprocess.run(search, stdout=subprocess.DEVNULL, check=False).returncode == 0:
        if time.monotonic() > deadline:
            raise TimeoutError(f"a recorder of {conf} does not end")
        time.sleep(0.02)
