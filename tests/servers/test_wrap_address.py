"""Which address, user and service the wrapper records, and what it says about the others."""

import os
from ipaddress import ip_address

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.servers.wrap_fixtures import run

RECORDED = {
    b"198.51.100.7": "198.51.100.7",
    b"::ffff:198.51.100.7": "198.51.100.7",
    b"::FFFF:c633:6407": "198.51.100.7",
    b"2001:DB8:0:0::7": "2001:db8::7",
}
SILENT = [
    *(b"", b"127.0.0.1", b"127.255.255.254", b"::1", b"0.0.0.0", b"::", b"::ffff:127.0.0.1"),
    *(b"fe80::1", b"169.254.1.1", b"224.0.0.1", b"ff02::1"),
]
REFUSED = [
    *(b"fe80::1%eth0", b"127", b"198.51.100.7 OR 1=1", b"'; DROP TABLE popbsmtp; --"),
    *(b"x" * 100_000, bytes(range(1, 256)), b"1.2.3.4.5", b"010.1.2.3", "٣.1.1.1".encode()),
    *(b"198.51.100.7\n", b"\n\n", b"unknown", b"198.51.100", b"198.51.100.0/24", b" "),
    *(b"198.51.100.7\tx\timap", b"::1%lo", b"198.51.100.7\r\npopbsmtp-wrap: forged"),
]


def login(place, environment, *options, program="/bin/true"):
    ended = run(place.command(*options, "--", program), environment)
    assert ended.status == 0
    assert ended.stdout == b""
    return ended.lines


@pytest.mark.parametrize(("text", "address"), RECORDED.items())
def test_address_is_recorded_in_its_canonical_form(place, text, address):
    assert login(place, {b"IP": text, b"USER": b"alice"}) == []
    assert place.rows() == [(address, "alice", None)]


@pytest.mark.parametrize("text", SILENT, ids=ascii)
def test_address_that_never_counts_is_passed_over_in_silence(place, text):
    assert login(place, {b"IP": text, b"USER": b"alice"}) == []
    assert place.rows() == []


def test_login_without_an_address_is_passed_over_in_silence(place):
    assert login(place, {b"USER": b"alice"}) == []
    assert place.rows() == []


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: ascii(text[:30]))
def test_text_that_is_no_address_is_refused_with_one_line(place, text):
    (line,) = login(place, {b"IP": text, b"USER": b"alice"})
    assert line.startswith("popbsmtp-wrap: not recorded: '" if b"'" not in text else "popbsmtp")
    assert line.endswith("is not an IPv4 or IPv6 address")
    assert line.isprintable()
    assert len(line) < 400
    assert place.rows() == []


@pytest.mark.parametrize(
    ("environment", "rows"),
    [
        ({"TCPREMOTEIP": "203.0.113.1"}, ["203.0.113.1"]),
        ({"TCPREMOTEIP": "::ffff:203.0.113.1"}, ["203.0.113.1"]),
        ({"IP": "198.51.100.7", "TCPREMOTEIP": "203.0.113.1"}, ["198.51.100.7"]),
        ({"IP": "", "TCPREMOTEIP": "203.0.113.1"}, ["203.0.113.1"]),
        ({"IP": "127.0.0.1", "TCPREMOTEIP": "203.0.113.1"}, []),
        ({"REMOTE_IP": "203.0.113.1", "LOCAL_IP": "203.0.113.2"}, []),
        ({"IP": "198.51.100.7", "MASTER_USER": "root1"}, []),
        ({"IP": "198.51.100.7", "MASTER_USER": ""}, ["198.51.100.7"]),
        ({"IP": "198.51.100.7", "LOCAL_IP": "198.51.100.7"}, []),
        ({"IP": "2001:DB8::7", "LOCAL_IP": "2001:db8:0::7"}, []),
        ({"IP": "::ffff:198.51.100.7", "LOCAL_IP": "198.51.100.7"}, []),
        ({"IP": "198.51.100.7", "LOCAL_IP": "198.51.100.8"}, ["198.51.100.7"]),
        ({"IP": "198.51.100.7", "LOCAL_IP": ""}, ["198.51.100.7"]),
        ({"IP": "198.51.100.7", "LOCAL_IP": "\xff" * 200}, ["198.51.100.7"]),
        ({"TCPREMOTEIP": "203.0.113.1", "TCPLOCALIP": "203.0.113.1"}, []),
        # Of another connection.
        ({"TCPREMOTEIP": "203.0.113.1", "LOCAL_IP": "203.0.113.1"}, ["203.0.113.1"]),
    ],
)
def test_address_is_that_of_ip_else_of_tcpremoteip_and_never_an_administrators(
    place, environment, rows
):
    assert login(place, environment) == []
    assert [address for address, *_ in place.rows()] == rows


@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "anonymous", "Anonymous"])
def test_anonymous_login_is_not_recorded_and_said(place, mechanism):
    (line,) = login(place, {"IP": "198.51.100.7", "AUTH_MECH": mechanism})
    assert line.endswith("198.51.100.7 not recorded: an anonymous login proves nothing")
    assert place.rows() == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "", "ANONYMOUS-PLUS"])
def test_login_by_another_mechanism_is_recorded(place, mechanism):
    assert login(place, {"IP": "198.51.100.7", "AUTH_MECH": mechanism}) == []
    assert len(place.rows()) == 1


def test_service_is_the_programs_name_where_that_is_imap_or_pop3(place, tmp_path):
    for name in ("imap", "pop3", "lmtp", "imap-login"):
        (tmp_path / name).symlink_to("/bin/true")
    for octet, name in enumerate(("imap", "pop3", "lmtp", "imap-login")):
        login(place, {"IP": f"198.51.100.{octet}"}, program=str(tmp_path / name))
    assert [service for *_, service in place.rows()] == ["imap", "pop3", None, None]


def test_service_option_has_precedence(place, tmp_path):
    (tmp_path / "imap").symlink_to("/bin/true")
    login(place, {"IP": "198.51.100.7"}, "--service", "pop3", program=str(tmp_path / "imap"))
    login(place, {"IP": "198.51.100.8"}, "--service=managesieve")
    login(place, {"IP": "198.51.100.9"}, "--service", b"\xff\n" * 50_000)
    assert [service for *_, service in place.rows()] == [
        "pop3",
        "managesieve",
        r"\xff\n\xff\n\xff\n\xff"[:20],
    ]


@pytest.mark.parametrize(
    ("user", "stored"),
    [
        (b"", None),
        (b"alice@example.com", "alice@example.com"),
        ("jürgen".encode(), "jürgen"),
        (b"a\tb\nc", r"a\tb\nc"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"'; DROP TABLE popbsmtp; --", "'; DROP TABLE popbsmtp; --"),
        (b"%00%zz", "%00%zz"),
        (b"u" * 100_000, "u" * 255),
        ("語".encode() * 30_000, "語" * 255),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_no_user_name_loses_the_login(place, user, stored):
    assert login(place, {b"IP": b"198.51.100.7", b"USER": user}) == []
    assert place.rows() == [("198.51.100.7", stored, None)]


def test_missing_user_is_unknown(place):
    assert login(place, {"IP": "198.51.100.7"}) == []
    assert place.rows() == [("198.51.100.7", None, None)]


def judged_by_the_standard_library(text: bytes) -> str | None:
    """Return the address that may be stored for *text*, None for nothing."""
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        return None
    if getattr(address, "scope_id", None) is not None:
        return None
    return str(getattr(address, "ipv4_mapped", None) or address)


_BYTES = st.binary(max_size=300).map(lambda value: value.replace(b"\0", b""))
_ALMOST = st.text(alphabet="0123456789abcdefF:.%/ \n", max_size=46).map(str.encode)
_ADDRESSES = st.ip_addresses().flatmap(
    lambda address: st.sampled_from([str(address), address.exploded.upper()]).map(str.encode)
)


@pytest.mark.slow
@given(ip=st.one_of(_BYTES, _ALMOST, _ADDRESSES, _ADDRESSES), user=_BYTES)
@example(ip=b"::ffff:0:0", user=b"\n")
@settings(max_examples=60)
def test_whatever_ip_and_user_hold_the_program_runs_and_only_that_very_address_is_stored(
    shared, ip, user
):
    shared.clear()
    lines = login(shared, {b"IP": ip, b"USER": user})
    stored = shared.rows()
    expected = judged_by_the_standard_library(ip)
    if stored:
        ((address, _, _),) = stored
        # Compared as numbers: inet_ntop writes ::1.2.3.4 where ipaddress writes ::102:304.
        assert expected is not None
        assert ip_address(address) == ip_address(expected)
        assert lines == []
    elif ip and expected is None:
        assert len(lines) == 1
    elif ip:
        number = ip_address(expected)
        assert lines == []
        assert (
            number.is_loopback
            or number.is_unspecified
            or number.is_link_local
            or number.is_multicast
        )


def test_the_table_survives_everything_that_came_in(shared):
    assert shared.query("PRAGMA integrity_check") == [("ok",)]
    assert os.path.getsize(shared.database) < 1 << 20
