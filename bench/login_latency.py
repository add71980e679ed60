"""Real Dovecot: from the LOGIN (or PASS) command to its OK, with each kind of post-login script.

Every login claims a new client address (login_trusted_networks), as the wrapper ignores 127.0.0.1.
What a login leaves running is awaited before the next one is measured.
"""

import itertools
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from bench.databases import KINDS, TITLES, Place, Servers
from bench.figures import Cell, interleaved, median, ms, print_table
from bench.programs import CLASSIC, TOOLKIT, new_address
from bench.stub_recorder import StubRecorder
from tests.harness.directories import write
from tests.harness.dovecot import Dovecot
from tests.harness.mail_clients import ImapSession, Pop3Session, imap_login, pop3_login

ROUNDS = 15
PARALLEL = 20
PARALLEL_ROUNDS = 2
# The recording process gives up after 30 s (recorder/direct.py).
_SETTLED_S = 40.0
_SERVICE = """\
service {service} {{
  executable = {service} {service}-postlogin
}}
service {service}-postlogin {{
  executable = script-login {command}
  user = $default_internal_user
  unix_listener {service}-postlogin {{
  }}
}}
"""


class Variant:
    """A running Dovecot with one kind of post-login script."""

    def __init__(self, servers: Servers, postlogin: str, place: Place | None = None) -> None:
        self.place = place
        self.expected = 0
        self.dovecot = Dovecot(servers.base, postlogin=postlogin)
        servers.start(self.dovecot)

    def login(self, service: str) -> float:
        """Return the seconds of one login from a new address."""
        session: ImapSession | Pop3Session
        if service == "imap":
            session = imap_login(self.dovecot.imap_port, client_address=new_address(), timeout_s=60)
        else:
            session = pop3_login(self.dovecot.pop3_port, client_address=new_address(), timeout_s=60)
        session.logout()
        return session.login_seconds

    def logins(self, service: str, count: int) -> list[float]:
        """Return the seconds of *count* logins at once; wait until all are recorded."""
        self.expected += count
        if count == 1:
            found = [self.login(service)]
        else:
            with ThreadPoolExecutor(count) as clients:
                found = list(clients.map(self.login, [service] * count))
        self.settle()
        return found

    def settle(self) -> None:
        """Wait until each login so far has its row; raise TimeoutError when one has none."""
        deadline = time.monotonic() + _SETTLED_S
        while self.place is not None and self.place.count() < self.expected:
            if time.monotonic() > deadline:
                missing = self.expected - self.place.count()
                raise TimeoutError(f"{self.place.kind}: {missing} logins not recorded")
            time.sleep(0.02)


def main(servers: Servers) -> None:
    """Print latencies as ratios to a Dovecot without post-login script."""
    stub_path = servers.base / "stub.sock"
    with StubRecorder(stub_path):
        variants = start(servers, stub_path)
        rows = []
        for service in ("imap", "pop3"):
            for count, rounds in ((1, ROUNDS), (PARALLEL, PARALLEL_ROUNDS)):
                found = interleaved(
                    {
                        name: partial(variant.logins, service, count)
                        for name, variant in variants.items()
                    },
                    rounds,
                )
                flat = {name: list(itertools.chain(*lists)) for name, lists in found.items()}
                rows += [row(service, count, name, flat) for name in flat]
    header = (
        "login",
        "at once",
        "post-login",
        "median / none",
        "worst / none",
        "n",
        "for the record",
    )
    print_table("login_latency: LOGIN to OK in Dovecot", header, rows)


def start(servers: Servers, stub_path: Path) -> dict[str, Variant]:
    """Return a running Dovecot for each kind of post-login script."""
    stub_conf = servers.base / "stub.toml"
    write(stub_conf, f'[recorder]\nsocket = "{stub_path}"\n')
    variants = {
        "none": Variant(servers, ""),
        "sh": Variant(servers, every_service(str(CLASSIC / "exec.sh"))),
        "ours, stub recorder": Variant(servers, printed(str(stub_conf))),
    }
    for kind in KINDS:
        place = servers.place(kind)
        variants[f"ours, {TITLES[kind]}"] = Variant(servers, printed(place.conf), place)
    return variants


def every_service(command: str) -> str:
    """Return Dovecot's configuration for one script."""
    return "".join(_SERVICE.format(service=s, command=command) for s in ("imap", "pop3"))


def printed(conf: str) -> str:
    """Return Dovecot's configuration as the toolkit prints it."""
    argv = [TOOLKIT, "-c", conf, "dovecot", "--for", "2.3"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def row(service: str, count: int, name: str, found: dict[str, list[float]]) -> tuple[Cell, ...]:
    """Return the table's row for *name*."""
    own, none = found[name], found["none"]
    return (
        service,
        count,
        name,
        median(own) / median(none),
        max(own) / max(none),
        len(own),
        f"median {ms(median(own))} ms, worst {ms(max(own))} ms",
    )
