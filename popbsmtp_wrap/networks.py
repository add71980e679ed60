"""Networks whose logins never count: they relay anyway, or must never."""

import os
import subprocess
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from popbsmtp_wrap.address import never_counts
from popbsmtp_wrap.config import Ignore, Network

POSTCONF = "/usr/sbin/postconf"
_POSTCONF_TIMEOUT_S = 2


def why_ignored(address: str, ignore: Ignore) -> str | None:
    """Return why a login from canonical *address* is not recorded, None when it is."""
    if kind := never_counts(address):
        return f"{address} is {kind}"
    networks = list(ignore.networks)
    if ignore.postfix_mynetworks:
        networks += postfix_mynetworks()
    client = ip_address(address)
    for network in networks:
        if client in network:
            return f"{address} is in the ignored network {network}"
    return None


def postfix_mynetworks(postconf: str = POSTCONF) -> list[Network]:
    """Return the networks of Postfix's mynetworks; none where there is no Postfix.

    Files that it names are read; tables (type:name) and exclusions (!) say nothing about a whole
    network and are left out, see postconf(5).
    """
    if not os.access(postconf, os.X_OK):
        return []
    try:
        done = subprocess.run(
            [postconf, "-xh", "mynetworks"],
            capture_output=True,
            text=True,
            timeout=_POSTCONF_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return list(parse_mynetworks(done.stdout.replace(",", " ").split()))


def parse_mynetworks(words: Iterable[str]) -> Iterator[Network]:
    """Yield the networks among *words* of mynetworks syntax, those of files included."""
    for word in words:
        if word.startswith("/"):
            try:
                with open(word, encoding="utf-8", errors="replace") as file:
                    lines = [line for line in file if not line.startswith("#")]
            except OSError:
                continue
            yield from parse_mynetworks(
                w for w in " ".join(lines).replace(",", " ").split() if not w.startswith("/")
            )
            continue
        try:
            yield ip_network(word.replace("[", "").replace("]", ""), strict=False)
        except ValueError:
            continue
