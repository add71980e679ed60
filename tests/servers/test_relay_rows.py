"""What a row may open, and how often Postfix asks."""

import smtplib

import pytest
from relay_world import KINDS, shared_world

from tests.harness.smtp_client import SmtpSession, smtp_rcpt

# Row, and the client (address, name) that Postfix would also ask this key for.
TRAPS = [
    ("127", "127.0.0.3", None),
    ("198", "198.51.100.7", None),
    ("198.51", "198.51.100.7", None),
    ("198.51.100", "198.51.100.7", None),
    ("unknown", "198.51.100.7", None),
    ("unknown", "2001:db8::7", None),
    ("mail.customer.example.com", "198.51.100.7", "mail.customer.example.com"),
    ("customer.example.com", "198.51.100.7", "mail.customer.example.com"),
    (".customer.example.com", "198.51.100.7", "mail.customer.example.com"),
    ("com", "198.51.100.7", "mail.customer.example.com"),
    ("2001", "2001:db8::1:0:0:1", None),
    ("2001:db8", "2001:db8::1:0:0:1", None),
    ("2001:db8:", "2001:db8::1:0:0:1", None),
    ("2001:db8::1", "2001:db8::1:0:0:1", None),
    ("2001:db8::1:0:0", "2001:db8::1:0:0:1", None),
    ("v6.example.com", "2001:db8::1:0:0:1", "v6.example.com"),
    ("", "198.51.100.7", None),
    (":", "::2", None),
]


@pytest.fixture(scope="module", params=KINDS)
def world(request):
    return shared_world(request.param)


@pytest.fixture
def relay(world):
    relay = world.shared_relay(next(iter(world.ways)), True)
    world.clear()
    return relay


@pytest.fixture(params=["pgsql", "mysql"])
def logged(request):
    """A relay whose database logs every statement."""
    relay = shared_world(request.param).shared_relay("tcp", True)
    relay.world.clear()
    return relay


def test_a_name_or_a_prefix_as_a_row_opens_nothing(relay):
    for key, address, name in TRAPS:
        relay.world.clear()
        relay.world.plant(key)
        assert smtp_rcpt(relay.port, address, client_name=name)[0] == 554, (key, address, name)


def test_all_traps_at_once_open_nothing_and_the_address_itself_opens(relay):
    for key in {key for key, _, _ in TRAPS}:
        relay.world.plant(key)
    for _, address, name in TRAPS:
        expected = 250 if address in {key for key, _, _ in TRAPS} else 554
        assert smtp_rcpt(relay.port, address, client_name=name)[0] == expected
        relay.world.plant(address)
        assert smtp_rcpt(relay.port, address, client_name=name)[0] == 250
        relay.world.sql(f"DELETE FROM popbsmtp WHERE address = '{address}'")


def test_a_client_cannot_be_named_like_an_address(relay):
    relay.world.plant("203.0.113.9")
    with pytest.raises(smtplib.SMTPResponseException) as refused:
        smtp_rcpt(relay.port, "198.51.100.7", client_name="203.0.113.9")
    assert refused.value.smtp_code == 501


def test_a_name_full_of_sql_opens_nothing(relay):
    relay.world.plant("203.0.113.9")
    name = "x'--.example.com"
    try:
        code = smtp_rcpt(relay.port, "198.51.100.7", client_name=name)[0]
    except smtplib.SMTPResponseException as refused:
        code = refused.smtp_code
    assert code in (501, 554)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("198.51.100.7", None),
        ("198.51.100.7", "mail.customer.example.com"),
        ("2001:db8::1:0:0:1", None),
        ("2001:db8::1:0:0:1", "v6.example.com"),
        ("2001:db8:1:2:3:4:5:6", None),
    ],
)
@pytest.mark.parametrize("permitted", [False, True])
def test_each_recipient_to_relay_for_costs_exactly_one_query(logged, address, name, permitted):
    if permitted:
        logged.world.plant(address)
    logged.world.mark()
    with SmtpSession(logged.port, address, client_name=name) as session:
        session.mail("alice@example.org")
        for number in (1, 2, 3):
            code = session.rcpt(f"someone{number}@elsewhere.example")[0]
            assert code == (250 if permitted else 554)
            lookups = logged.world.lookups()
            assert len(lookups) == number, lookups
            assert f"'{address}'" in lookups[-1]


def test_mail_for_our_own_domain_costs_no_query(logged):
    logged.world.mark()
    for address in ("198.51.100.7", "2001:db8::7"):
        with SmtpSession(logged.port, address) as session:
            session.mail("someone@elsewhere.example")
            for number in (1, 2, 3):
                assert session.rcpt(f"bob{number}@example.org")[0] == 250
    assert logged.world.lookups() == []
