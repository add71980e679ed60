"""Canonical addresses, with the standard library's ipaddress as the second opinion."""

from ipaddress import AddressValueError, IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from popbsmtp_wrap.address import canonical_address, never_counts, printable

GOOD = {
    "198.51.100.7": "198.51.100.7",
    "::ffff:198.51.100.7": "198.51.100.7",
    "::FFFF:c633:6407": "198.51.100.7",
    "0:0:0:0:0:ffff:198.51.100.7": "198.51.100.7",
    "2001:DB8:0:0::7": "2001:db8::7",
    "2001:0db8:0000:0000:0001:0000:0000:0007": "2001:db8::1:0:0:7",
    "2001:db8:0:1:1:1:1:1": "2001:db8:0:1:1:1:1:1",
    "255.255.255.255": "255.255.255.255",
    "::1": "::1",
    "::": "::",
    "0.0.0.0": "0.0.0.0",
}
BAD = [
    *("", " ", "127", "unknown", "1.2.3", "1.2.3.4.5", "1.2.3.256", "010.1.2.3", "1.2.3.04"),
    *("0x7f.1.2.3", "198.51.100.7 ", " 198.51.100.7", "198.51.100.7\n", "198.51.100.7/32"),
    *("198.51.100.7 OR 1=1", "'; DROP TABLE popbsmtp; --", "fe80::1%eth0", "::1%lo", "[::1]"),
    *("2001:db8::1::2", "2001:db8:::1", "12345::", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "g::"),
    *("٣.1.1.1", "１.1.1.1", "1.1.1.1\0", "::\0", "\udcff.1.1.1", "1" * 100_000, "::" * 50_000),
    *("198.51.100.7,203.0.113.1", "example.com", "::ffff:1.2.3", "::ffff:010.1.2.3"),
]


@pytest.mark.parametrize(("text", "canonical"), GOOD.items())
def test_address_is_spelled_as_postfix_asks(text, canonical):
    assert canonical_address(text) == canonical


@pytest.mark.parametrize("text", BAD, ids=lambda text: ascii(text[:30]))
def test_text_that_is_no_complete_address_is_refused(text):
    with pytest.raises(ValueError, match="is not an IPv4 or IPv6 address") as refused:
        canonical_address(text)
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("126.255.255.255", None),
        ("127.0.0.0", "loopback"),
        ("127.255.255.255", "loopback"),
        ("128.0.0.0", None),
        ("0.0.0.0", "unspecified"),
        ("0.0.0.1", None),
        ("169.253.255.255", None),
        ("169.254.0.0", "link-local"),
        ("169.254.255.255", "link-local"),
        ("169.255.0.0", None),
        ("223.255.255.255", None),
        ("224.0.0.0", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.0", None),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("::2", None),
        ("fe7f:ffff::", None),
        ("fe80::", "link-local"),
        ("febf:ffff::1", "link-local"),
        ("fec0::", None),
        ("feff::", None),
        ("ff00::", "multicast"),
        ("ff02::1", "multicast"),
        ("10.0.0.1", None),
        ("fd00::1", None),
    ],
)
def test_only_addresses_of_the_network_outside_count(address, kind):
    assert never_counts(address) == kind


def oracle(text: str) -> str | None:
    """What the standard library makes of *text*."""
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        pass
    try:
        address = IPv6Address(text)
    except AddressValueError:
        return None
    if address.scope_id is not None:
        return None
    return str(address.ipv4_mapped or address)


def ours(text: str) -> str | None:
    try:
        return canonical_address(text)
    except ValueError:
        return None


@given(st.ip_addresses())
def test_every_address_is_its_own_canonical_form(address):
    mapped = getattr(address, "ipv4_mapped", None)
    assert ours(str(address)) == ours(address.exploded.upper())
    assert IPv4Address(ours(str(address))) == mapped if mapped else True
    if mapped is None:
        assert type(address)(ours(str(address))) == address


@given(st.text(alphabet="0123456789abcdefABCDEF:.%/ x\0٣\n", max_size=50))
@example("0::1.2.3.4")
def test_whatever_looks_like_an_address_is_judged_as_the_standard_library_does(text):
    expected = oracle(text)
    found = ours(text)
    assert (found is None) == (expected is None)
    if found is not None:
        # ::1.2.3.4 is written so by inet_ntop and ::102:304 by ipaddress; Postfix uses the former.
        assert oracle(found) == expected


@given(st.text(max_size=4096))
def test_any_text_is_an_address_or_a_value_error(text):
    found = ours(text)
    assert found is None or ours(found) == found
    assert len(printable(text)) < 700
    assert printable(text).isascii()
    assert printable(text).isprintable()
