"""popbsmtp-wrap with a recorder and without one, against the classic scripts and nothing.

Wall time ends with PROGRAM. CPU time is user and system of all processes that the login started;
for a first login that is the recorder from its start to its end. The database server's is not in
it. The CPU time of a recorder that was there before stands beside it. Every login comes from a new
address, so that none is answered from memory.

"recorder" is popbsmtp serve; "lingering" the recorder that an earlier login has started; "first
login" one that has to start it ([wrapper] linger = "0").
"""

from functools import partial
from pathlib import Path

from bench.databases import KINDS, TITLES, Place, Servers
from bench.figures import Cell, interleaved, median, ms, print_table
from bench.meter import Cost, Meter
from bench.programs import CLASSIC, PROGRAM, WRAPPER, launcher_interpreter, login_environment
from bench.serving import Lingering, Recorder
from tests.harness.directories import write

ROUNDS = 25
_EXEC = f"import posix; posix.execv({PROGRAM!r}, [{PROGRAM!r}])"
_BASES = ("python3 -I -S, exec", "sh + mysql", "sh + psql")


def main(servers: Servers) -> None:
    """Print wall and CPU of each program as ratios to _BASES."""
    places = {kind: servers.place(kind) for kind in TITLES}
    recorders = {
        f"ours, recorder, {TITLES[kind]}": Recorder(servers.base, servers.place(kind))
        for kind in KINDS
    }
    commands = {
        "python3 -I -S, exec": [launcher_interpreter(), "-I", "-S", "-c", _EXEC],
        "sh + mysql": [str(CLASSIC / "mysql.sh"), PROGRAM],
        "sh + mysql, unix socket": [str(CLASSIC / "mysql.sh"), PROGRAM],
        "sh + psql": [str(CLASSIC / "psql.sh"), PROGRAM],
    }
    for name, recorder in recorders.items():
        servers.start(recorder)
        commands[name] = [WRAPPER, "--socket", recorder.socket, PROGRAM]
    for kind, place in places.items():
        commands[f"ours, lingering, {TITLES[kind]}"] = [WRAPPER, "--config", place.conf, PROGRAM]
    for kind, place in places.items():
        cold = [WRAPPER, "--config", cold_conf(place), "--wait", "30", PROGRAM]
        commands[f"ours, first login, {TITLES[kind]}"] = cold
    more = classic_environments(servers, places)
    # Before the meter, which would wait for their end.
    lingering = {f"ours, lingering, {TITLES[k]}": Lingering(p.conf) for k, p in places.items()}
    there: dict[str, Recorder | Lingering] = {**recorders, **lingering}
    beside: dict[str, list[float]] = {name: [] for name in there}

    def run(name: str) -> Cost:
        before = there[name].cpu_s() if name in there else 0.0
        # A recorder that failed would make the wrapper complain, and that raises.
        cost = meter.cost(commands[name], login_environment(**more.get(name, {})))
        if name in there:
            beside[name].append(there[name].cpu_s() - before)
        return cost

    try:
        with Meter() as meter:
            costs = interleaved({name: partial(run, name) for name in commands}, ROUNDS)
    finally:
        for one in lingering.values():
            one.end()
    expect_rows(places, recorders)
    header = (
        "process",
        *(f"{kind} / {name}" for kind in ("wall", "CPU") for name in ("exec", "mysql", "psql")),
        "n",
        "medians, for the record",
    )
    rows = [row(name, costs, beside.get(name)) for name in commands]
    print_table("wrapper: one login, whole process", header, rows)


def cold_conf(place: Place) -> str:
    """Return a configuration file whose recorder ends with its login."""
    path = Path(f"{place.conf}.cold")
    text = f'{Path(place.conf).read_text("utf-8")}[wrapper]\nlinger = "0"\n'
    return str(write(path, text, mode=0o640, owner="root:dovecot"))


def classic_environments(servers: Servers, places: dict[str, Place]) -> dict[str, dict[str, str]]:
    """Return what the classic scripts need in their environment; create their tables."""
    mariadb, postgres = servers.mariadb, servers.postgres
    table = "CREATE TABLE classic (address varchar(39) PRIMARY KEY, last_seen datetime)"
    for kind in ("mariadb", "mariadb-socket"):
        places[kind].sql(table)
    places["postgresql"].sql("CREATE TABLE auth (host text PRIMARY KEY, accessed timestamp)")

    def options(kind: str, where: str) -> dict[str, str]:
        text = (
            f"[client]\n{where}\nuser = {mariadb.superuser}\npassword = {mariadb.password}\n"
            f"[mysql]\ndatabase = {places[kind].name}\n"
        )
        return {"CLASSIC_MYSQL": str(_private(servers.base / f"{kind}.cnf", text))}

    return {
        "sh + mysql": options(
            "mariadb", f"protocol = tcp\nhost = {mariadb.host}\nport = {mariadb.port}"
        ),
        "sh + mysql, unix socket": options("mariadb-socket", f"socket = {mariadb.socket}"),
        "sh + psql": {
            "PGHOST": postgres.host,
            "PGPORT": str(postgres.port),
            "PGDATABASE": places["postgresql"].name,
            "PGUSER": postgres.superuser,
            "PGPASSWORD": postgres.password,
        },
    }


def _private(path: Path, text: str) -> Path:
    return write(path, text, mode=0o600)


def expect_rows(places: dict[str, Place], recorders: dict[str, Recorder]) -> None:
    """Raise RuntimeError unless every run has left its row: a failed one is fast."""
    runs = ROUNDS + 1
    found = {f"ours, {kind}": place.count() for kind, place in places.items()}
    # One has started the recorder that lingers.
    wanted = dict.fromkeys(found, 2 * runs + 1)
    found |= {name: recorder.place.count() for name, recorder in recorders.items()}
    for kind, table in (("mariadb", "classic"), ("mariadb-socket", "classic")):
        found[f"classic, {kind}"] = places[kind].count(table)
    found["classic, postgresql"] = places["postgresql"].count("auth")
    wanted |= dict.fromkeys(found.keys() - wanted.keys(), runs)
    if found != wanted:
        raise RuntimeError(f"rows: {found}, expected {wanted}")


def row(name: str, costs: dict[str, list[Cost]], beside: list[float] | None) -> tuple[Cell, ...]:
    """Return the table's row for *name*; *beside* is the CPU time of its recorder per login."""
    recorder = f", recorder's CPU {ms(median(beside))} ms" if beside else ""
    wall = {n: median(c.wall for c in found) for n, found in costs.items()}
    cpu = {n: median(c.cpu for c in found) for n, found in costs.items()}
    return (
        name,
        *(wall[name] / wall[base] for base in _BASES),
        *(cpu[name] / cpu[base] for base in _BASES),
        len(costs[name]),
        f"{ms(wall[name])} ms, CPU {ms(cpu[name])} ms{recorder}",
    )
