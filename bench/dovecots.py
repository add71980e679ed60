"""Running Dovecots, each with one thing that happens at a login."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from bench.databases import Place, Servers
from bench.programs import CLASSIC, TOOLKIT, new_address
from bench.serving import Recorder
from tests.harness.dovecot import Dovecot
from tests.harness.last_login import TABLE, last_login
from tests.harness.mail_clients import ImapSession, Pop3Session, imap_login, pop3_login

# A recorder that a login has started gives up after 25 s (recorder/lingering.py).
_SETTLED_S = 40.0
_TIMEOUT_S = 60.0
_SCRIPT = """\
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


@dataclass
class Variant:
    """A running Dovecot; its logins leave rows in *table* of *place*, or none.

    With *address* all come from there, and leave one row.
    """

    dovecot: Dovecot
    place: Place | None = None
    table: str = "popbsmtp"
    address: str | None = None
    expected: int = 0

    def login(self, service: str) -> float:
        """Return the seconds from LOGIN or PASS to OK of one login."""
        session: ImapSession | Pop3Session
        address = self.address or new_address()
        if service == "imap":
            session = imap_login(
                self.dovecot.imap_port, client_address=address, timeout_s=_TIMEOUT_S
            )
        else:
            session = pop3_login(
                self.dovecot.pop3_port, client_address=address, timeout_s=_TIMEOUT_S
            )
        session.logout()
        return session.login_seconds

    def logins(self, service: str, count: int) -> list[float]:
        """Return the seconds of *count* logins at once; wait until all are recorded."""
        self.expected = 1 if self.address else self.expected + count
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
        while self.place is not None and self.place.count(self.table) < self.expected:
            if time.monotonic() > deadline:
                missing = self.expected - self.place.count(self.table)
                raise TimeoutError(f"{self.place.kind}: {missing} logins not recorded")
            time.sleep(0.02)


def plain(servers: Servers) -> Variant:
    """Return a Dovecot where nothing happens at a login."""
    return _start(servers, "")


def shell_script(servers: Servers) -> Variant:
    """Return a Dovecot with script-login and the least that a shell script can do."""
    command = str(CLASSIC / "exec.sh")
    return _start(
        servers, "".join(_SCRIPT.format(service=s, command=command) for s in ("imap", "pop3"))
    )


def wrapper(servers: Servers, place: Place, conf: str | None = None) -> Variant:
    """Return a Dovecot with popbsmtp-wrap, configured by *place* or by *conf*."""
    return _start(servers, _printed("-c", conf or place.conf, "dovecot", "--for", "2.3"), place)


def post_login_socket(servers: Servers, recorder: Recorder, address: str | None = None) -> Variant:
    """Return a Dovecot that asks the sockets of a running *recorder*."""
    printed = _printed("-c", recorder.conf, "dovecot", "--for", "2.3", "--mode", "socket")
    return replace(_start(servers, printed, recorder.place), address=address)


def plugin(servers: Servers, place: Place) -> Variant:
    """Return a Dovecot whose own plugin last_login writes to a table of *place*."""
    place.sql(TABLE)
    server = servers.postgres if place.kind == "postgresql" else servers.mariadb
    text = last_login(servers.base / f"{place.name}-map.conf", server, place.name)
    return _start(servers, text, place, "pop")


def _start(
    servers: Servers, text: str, place: Place | None = None, table: str = "popbsmtp"
) -> Variant:
    dovecot = Dovecot(servers.base, postlogin=text)
    servers.start(dovecot)
    return Variant(dovecot, place, table)


def _printed(*arguments: str) -> str:
    """Return Dovecot's configuration as the toolkit prints it."""
    return subprocess.run([TOOLKIT, *arguments], capture_output=True, text=True, check=True).stdout
