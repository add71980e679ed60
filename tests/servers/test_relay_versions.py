"""What is generated for older Postfix, run by the Postfix at hand: it understands it all."""

import pytest
from relay_world import KINDS, shared_world
from test_relay_rows import TRAPS

from tests.harness.smtp_client import SmtpSession, smtp_rcpt

# Without pipemap, so without IPv6: an IPv6 prefix may look like an address.
PLAIN = ["2.9", "2.10", "2.11"]


@pytest.fixture(params=[*PLAIN, "3.0", "3.11"])
def version(request):
    return request.param


@pytest.fixture(params=KINDS)
def relay(request, version):
    world = shared_world(request.param)
    world.clear()
    # Postfix 2.9 has no such parameter; ours has a default that refuses.
    unknown = "smtpd_relay_restrictions =\n" if version == "2.9" else ""
    way = next(iter(world.ways))
    relay = world.relay(way, version=version, chroot=True, main_cf=unknown)
    yield relay
    relay.postfix.stop()


def test_addresses_alone_open_the_relay_on_other_versions(relay, version):
    assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 554
    for key, address, name in TRAPS:
        relay.world.clear()
        relay.world.plant(key)
        assert smtp_rcpt(relay.port, address, client_name=name)[0] == 554, (key, address, name)
    relay.world.clear()
    for age_s, code in ((29 * 60, 250), (31 * 60, 554), (0, 250)):
        relay.world.plant("198.51.100.7", age_s)
        assert smtp_rcpt(relay.port, "198.51.100.7")[0] == code
    named = {"client_name": "mail.customer.example.com"}
    assert smtp_rcpt(relay.port, "198.51.100.7", **named)[0] == 250
    assert smtp_rcpt(relay.port, "198.51.100.70")[0] == 554
    relay.world.plant("2001:db8::7")
    assert smtp_rcpt(relay.port, "2001:db8::7")[0] == (554 if version in PLAIN else 250)
    assert smtp_rcpt(relay.port, "203.0.113.9", "bob@example.org")[0] == 250


def test_a_regexp_in_a_file_keeps_it_at_one_query():
    world = shared_world("pgsql")
    world.clear()
    relay = world.relay("tcp", version="3.0")
    world.plant("198.51.100.7")
    world.mark()
    with SmtpSession(relay.port, "198.51.100.7", client_name="mail.example.com") as session:
        session.mail("alice@example.org")
        assert session.rcpt("someone@elsewhere.example")[0] == 250
        assert session.rcpt("bob@example.org")[0] == 250
    assert len(world.lookups()) == 1
    relay.postfix.stop()


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
def test_postfix_reaches_the_database_by_ipv6(kind):
    world = shared_world(kind)
    world.clear()
    world.plant("198.51.100.7")
    relay = world.shared_relay("ipv6", True)
    assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 250
    assert smtp_rcpt(relay.port, "198.51.100.8")[0] == 554


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
def test_the_second_host_answers_when_the_first_is_dead(kind):
    world = shared_world(kind)
    world.clear()
    world.plant("198.51.100.7")
    relay = world.relay(hosts=["127.0.0.1:1", world.ways["tcp"]])
    assert [smtp_rcpt(relay.port, "198.51.100.7")[0] for _ in range(4)] == [250] * 4
    assert smtp_rcpt(relay.port, "198.51.100.8")[0] == 554
    relay.postfix.stop()
