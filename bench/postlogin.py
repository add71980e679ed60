"""Real Dovecot: from the LOGIN (or PASS) command to its OK, with the recorder's sockets.

Beside them Dovecot's own plugin last_login, which writes to the same database and does not wait
for it. Every login claims a new client address, so that none is answered from memory, and has its
row before the next one is measured.
"""

from bench.databases import KINDS, TITLES, Servers
from bench.dovecots import plain, plugin, post_login_socket, shell_script
from bench.figures import print_table
from bench.login_latency import HEADER, PARALLEL, latencies
from bench.serving import Recorder

ROUNDS = 60
PARALLEL_ROUNDS = 12
_PEERS = ("mariadb", "postgresql")


def main(servers: Servers) -> None:
    """Print latencies as ratios to a Dovecot where nothing happens at a login."""
    variants = {"none": plain(servers), "sh": shell_script(servers)}
    for kind in KINDS:
        recorder = Recorder(servers.base, servers.place(kind))
        servers.start(recorder)
        variants[f"socket, {TITLES[kind]}"] = post_login_socket(servers, recorder)
    for kind in _PEERS:
        variants[f"last_login, {TITLES[kind]}"] = plugin(servers, servers.place(kind))
    table = latencies(variants, {1: ROUNDS, PARALLEL: PARALLEL_ROUNDS})
    print_table("postlogin: LOGIN to OK in Dovecot, with the recorder's sockets", HEADER, table)
