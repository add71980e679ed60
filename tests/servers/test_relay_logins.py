"""The main job: a login through real Dovecot opens the relay of a real Postfix, age closes it."""

import pytest
from relay_world import WAYS, shared_world

from tests.harness.mail_clients import imap_login, pop3_login
from tests.harness.smtp_client import smtp_rcpt, smtp_send

LOGINS = {"imap": imap_login, "pop3": pop3_login}
IPV4, IPV6 = "198.51.100.7", "2001:db8::1:0:0:1"
NEIGHBOURS = {
    IPV4: ["198.51.100.70", "198.51.100.8", "2001:db8::7"],
    IPV6: ["2001:db8::1", "2001:db8::1:0:0:2", "2001:db8::1:0:0:10", "198.51.100.7"],
}


@pytest.fixture(params=WAYS, ids="-".join)
def way(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["open", "chroot"])
def relay(request, way):
    kind, host = way
    relay = shared_world(kind).shared_relay(host, request.param)
    relay.world.clear()
    return relay


def log_in(world, service, address):
    port = getattr(world.dovecot, f"{service}_port")
    with LOGINS[service](port, client_address=address) as session:
        session.logout()


@pytest.mark.parametrize("address", [IPV4, IPV6])
@pytest.mark.parametrize("service", LOGINS)
def test_a_login_opens_the_relay_for_its_address_alone(relay, service, address):
    code, text = smtp_rcpt(relay.port, address)
    assert (code, "Relay access denied" in text) == (554, True)
    log_in(relay.world, service, address)
    assert smtp_rcpt(relay.port, address)[0] == 250
    assert smtp_send(relay.port, address)[0] == 250
    for other in NEIGHBOURS[address]:
        assert smtp_rcpt(relay.port, other)[0] == 554, other
    assert relay.world.sql("SELECT address, service FROM popbsmtp") == [(address, service)]


def test_half_an_hour_closes_the_relay(relay):
    for address in (IPV4, IPV6):
        for age_s, code in ((29 * 60, 250), (31 * 60, 554)):
            relay.world.plant(address, age_s)
            assert smtp_rcpt(relay.port, address)[0] == code, (address, age_s)


def test_a_login_opens_the_relay_again_after_it_closed(relay):
    relay.world.plant(IPV4, 31 * 60)
    assert smtp_rcpt(relay.port, IPV4)[0] == 554
    log_in(relay.world, "imap", IPV4)
    assert smtp_rcpt(relay.port, IPV4)[0] == 250


def test_a_time_in_the_future_opens_nothing(relay):
    for age_s, code in ((-30, 250), (-90, 554), (-86400, 554)):
        relay.world.plant(IPV4, age_s)
        assert smtp_rcpt(relay.port, IPV4)[0] == code, age_s
    log_in(relay.world, "imap", IPV4)
    assert smtp_rcpt(relay.port, IPV4)[0] == 250


def test_a_client_that_logged_in_by_ipv4_in_ipv6_relays_by_ipv4(relay):
    log_in(relay.world, "imap", f"::ffff:{IPV4}")
    assert smtp_rcpt(relay.port, IPV4)[0] == 250


def test_mail_for_our_own_domain_is_accepted_from_everybody(relay):
    assert smtp_rcpt(relay.port, IPV4, "bob@example.org")[0] == 250
    assert smtp_rcpt(relay.port, IPV6, "bob@example.org")[0] == 250
