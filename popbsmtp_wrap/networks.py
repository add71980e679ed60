"""Networks and addresses whose logins never count: they relay anyway, or must never."""

import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from popbsmtp_wrap.address import never_counts
from popbsmtp_wrap.config import Ignore
from popbsmtp_wrap.config.parsers import Network
from popbsmtp_wrap.own_addresses import OwnAddresses

POSTCONF = "/usr/sbin/postconf"
POSTCONF_TIMEOUT_S = 2


@dataclass(frozen=True)
class IgnoredNetworks:
    """The networks whose logins are not recorded, and this machine's own addresses.

    *own* is None where own addresses are recorded, too; it follows changes by itself.
    """

    networks: tuple[Network, ...] = ()
    own: OwnAddresses | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Network]:
        """Yield the networks."""
        return iter(self.networks)

    @property
    def trouble(self) -> str | None:
        """Why own addresses are not ignored though they should be, None when all is well."""
        if self.own is None:
            return None
        self.own.why("")
        return self.own.trouble


def ignored_networks(ignore: Ignore, patience_s: float = POSTCONF_TIMEOUT_S) -> IgnoredNetworks:
    """Return the networks and addresses whose logins are not recorded, as they are now.

    Without those of Postfix when postconf has no answer within *patience_s*. It takes up to 2.3 s
    while main.cf is younger than that: it waits until nobody can be writing it (dict_load_file_xt()
    in src/util/dict.c).
    """
    mynetworks = postfix_mynetworks(patience_s=patience_s) if ignore.postfix_mynetworks else []
    own = OwnAddresses() if ignore.own_addresses else None
    return IgnoredNetworks((*ignore.networks, *mynetworks), own)


def why_ignored(
    address: str,
    networks: IgnoredNetworks | Iterable[Network],
    local_address: str | None = None,
) -> str | None:
    """Return why a login from canonical *address* is not recorded, None when it is.

    *local_address* is the server's end of the client's connection, canonical, where it is known.
    """
    if kind := never_counts(address):
        return f"{address} is {kind}"
    own = networks.own if isinstance(networks, IgnoredNetworks) else None
    if own is not None:
        if kind := own.why(address):
            return f"{address} is {kind}"
        if address == local_address:
            return f"{address} is both ends of the connection"
    client = ip_address(address)
    for network in networks:
        if client in network:
            return f"{address} is in the ignored network {network}"
    return None


def postfix_mynetworks(
    postconf: str = POSTCONF, patience_s: float = POSTCONF_TIMEOUT_S
) -> list[Network]:
    """Return the networks of Postfix's mynetworks; none where there is no Postfix.

    Files that it names are read. Tables (type:name) say nothing about a whole network and are left
    out, as are networks of which a part is excluded (!) before: their logins may well need a row,
    and for the others it is of no harm. See postconf(5).
    """
    if not os.access(postconf, os.X_OK):
        return []
    try:
        done = subprocess.run(
            [postconf, "-xh", "mynetworks"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list(parse_mynetworks(done.stdout))


def parse_mynetworks(text: str) -> Iterator[Network]:
    """Yield the networks of *text* in mynetworks syntax, those of files that it names included."""
    excluded: list[Network] = []
    for word in _words(text):
        try:
            network = ip_network(word.lstrip("!").replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            continue
        if word.startswith("!"):
            excluded.append(network)
        elif not any(_overlap(network, other) for other in excluded):
            yield network


def _words(text: str) -> Iterator[str]:
    for word in text.replace(",", " ").split():
        name = word.lstrip("!")
        if not name.startswith("/"):
            yield word
            continue
        try:
            with open(name, encoding="utf-8", errors="replace") as file:
                lines = [line for line in file if not line.startswith("#")]
        except OSError:
            continue
        # One file does not name another one (match_list(3)); "!/file" turns all that it holds.
        for inner in " ".join(lines).replace(",", " ").split():
            yield word.removesuffix(name) + inner


def _overlap(one: Network, other: Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
