"""Logins from a machine's own addresses and from its default gateways.

A gateway that masquerades its clients logs in with its own address.
"""

import json
import sys
from pathlib import Path

import pytest

from tests.harness.machine import machine

OWN4, OWN6 = "192.0.2.2", "2001:db8::2"
GATEWAY4, GATEWAY6 = "192.0.2.1", "2001:db8::1"
CLIENT4, CLIENT6 = "192.0.2.9", "2001:db8::9"
PYTHON = sys.executable
POPBSMTP = str(Path(PYTHON).with_name("popbsmtp"))

_WHY = f"""
cat > /var/tmp/why.py <<'END'
import json, sys
from popbsmtp_wrap.config import Ignore
from popbsmtp_wrap.networks import ignored_networks, why_ignored
ignored = ignored_networks(Ignore(postfix_mynetworks=False))
print(json.dumps([why_ignored(address, ignored) for address in sys.argv[1:]]))
END
{PYTHON} /var/tmp/why.py """


@pytest.fixture(scope="module")
def host():
    with machine() as running:
        running.run(
            "ip link add mail0 type veth peer name other0\n"
            "ip link set mail0 up; ip link set other0 up\n"
            f"ip address add {OWN4}/24 dev mail0\n"
            f"ip address add {OWN6}/64 dev mail0 nodad\n"
            f"ip route add default via {GATEWAY4}\n"
            f"ip -6 route add default via {GATEWAY6}\n"
            "mkdir -p /etc/popbsmtp /var/lib/popbsmtp\n"
            "echo '[ignore]' > /etc/popbsmtp/popbsmtp.toml\n"
            f"{POPBSMTP} init"
        )
        yield running


def why(host, *addresses):
    return json.loads(host.run(_WHY + " ".join(addresses)))


def test_own_addresses_and_default_gateways_are_ignored_and_neighbours_are_not(host):
    assert why(host, OWN4, OWN6, GATEWAY4, GATEWAY6, CLIENT4, CLIENT6) == [
        f"{OWN4} is an address of this machine",
        f"{OWN6} is an address of this machine",
        f"{GATEWAY4} is a default gateway of this machine",
        f"{GATEWAY6} is a default gateway of this machine",
        None,
        None,
    ]


def test_router_that_is_no_default_gateway_may_log_in(host):
    host.run("ip route add 198.51.100.0/24 via 192.0.2.8")
    assert why(host, "192.0.2.8") == [None]


def test_every_gateway_of_a_default_route_with_several_paths_is_ignored(host):
    host.run(
        "ip route add default metric 50 nexthop via 192.0.2.5 nexthop via 192.0.2.6\n"
        "ip -6 route add default metric 50 nexthop via 2001:db8::5 nexthop via 2001:db8::6"
    )
    found = why(host, "192.0.2.5", "192.0.2.6", "2001:db8::5", "2001:db8::6")
    assert [reason and reason.partition(" is ")[2] for reason in found] == [
        "a default gateway of this machine"
    ] * 4


def test_default_gateways_of_other_routing_tables_are_ignored(host):
    host.run(
        "ip route add default via 192.0.2.7 table 100\n"
        "ip route add default via inet6 2001:db8::7 dev mail0 table 101"
    )
    assert None not in why(host, "192.0.2.7", "2001:db8::7")


def test_other_end_of_a_point_to_point_link_may_log_in(host):
    host.run("ip address add 203.0.113.1 peer 203.0.113.2/32 dev other0")
    assert why(host, "203.0.113.1", "203.0.113.2") == [
        "203.0.113.1 is an address of this machine",
        None,
    ]


def test_unreachable_default_route_has_no_gateway(host):
    host.run("ip route add unreachable default metric 9999")
    assert why(host, CLIENT4) == [None]


def test_login_by_hand_from_a_gateway_is_refused_with_the_reason(host):
    record = f"{POPBSMTP} record"
    with pytest.raises(RuntimeError, match=f"not recorded: {GATEWAY4} is a default gateway"):
        host.run(f"{record} {GATEWAY4}")
    host.run(f"{record} {CLIENT4}")
    host.run("echo 'own_addresses = false' >> /etc/popbsmtp/popbsmtp.toml")
    host.run(f"{record} {GATEWAY4}; {record} {OWN6}")


def test_resident_process_notices_an_address_that_comes_and_one_that_goes(host):
    script = """
import subprocess, time
from popbsmtp_wrap.config import Ignore
from popbsmtp_wrap.networks import ignored_networks, why_ignored
ignored = ignored_networks(Ignore(postfix_mynetworks=False))
def wait_until(expected):
    deadline = time.monotonic() + 60
    while (why_ignored("198.51.100.77", ignored) is not None) != expected:
        assert time.monotonic() < deadline, expected
        time.sleep(0.2)
wait_until(False)
for verb, expected in (("add", True), ("del", False)):
    subprocess.run(["ip", "address", verb, "198.51.100.77/32", "dev", "mail0"], check=True)
    wait_until(expected)
"""
    host.run(f"{PYTHON} -", text=script)
