"""Real Dovecot: from the LOGIN (or PASS) command to its OK, with the recorder's sockets.

Beside them Dovecot's own plugin last_login, which writes to the same database and does not wait
for it. "No flush" is PostgreSQL with synchronous_commit off: the difference is the disk, which a
commit waits for. Every login claims a new client address, so that none is answered from memory, and
has its row before the next one is measured.
"""

from dataclasses import replace
from pathlib import Path

from bench.databases import KINDS, TITLES, Place, Servers
from bench.dovecots import plain, plugin, post_login_socket, shell_script
from bench.figures import print_table
from bench.login_latency import HEADER, PARALLEL, latencies
from bench.serving import Recorder
from tests.harness.directories import write

ROUNDS = 60
PARALLEL_ROUNDS = 12
_PEERS = ("mariadb", "postgresql")


def main(servers: Servers) -> None:
    """Print latencies as ratios to a Dovecot where nothing happens at a login."""
    variants = {"none": plain(servers), "sh": shell_script(servers)}
    places = {TITLES[kind]: servers.place(kind) for kind in KINDS}
    places["PostgreSQL, no flush"] = without_flush(servers, servers.place("postgresql"))
    for title, place in places.items():
        recorder = Recorder(servers.base, place)
        servers.start(recorder)
        variants[f"socket, {title}"] = post_login_socket(servers, recorder)
    for kind in _PEERS:
        variants[f"last_login, {TITLES[kind]}"] = plugin(servers, servers.place(kind))
    table = latencies(variants, {1: ROUNDS, PARALLEL: PARALLEL_ROUNDS})
    print_table("postlogin: LOGIN to OK in Dovecot, with the recorder's sockets", HEADER, table)


def without_flush(servers: Servers, place: Place) -> Place:
    """Return *place* with a configuration whose commits do not wait for PostgreSQL's disk."""
    url = f"/{place.name}?options=-csynchronous_commit%3Doff"
    text = Path(place.conf).read_text("utf-8").replace(f"/{place.name}", url)
    conf = servers.base / f"{place.name}-no-flush.toml"
    write(conf, text, mode=0o640, owner="root:dovecot")
    return replace(place, conf=str(conf))
