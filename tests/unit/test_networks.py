"""Networks whose logins never count."""

from ipaddress import ip_network

import pytest

from popbsmtp_wrap.config import Ignore
from popbsmtp_wrap.networks import (
    ignored_networks,
    parse_mynetworks,
    postfix_mynetworks,
    why_ignored,
)


def networks(text):
    return [str(network) for network in parse_mynetworks(text)]


def ignore(*listed):
    networks = tuple(ip_network(network) for network in listed)
    return ignored_networks(Ignore(networks, postfix_mynetworks=False))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("127.0.0.0/8 [::1]/128", ["127.0.0.0/8", "::1/128"]),
        ("127.0.0.0/8, 192.0.2.0/24,", ["127.0.0.0/8", "192.0.2.0/24"]),
        ("[2001:db8::]/32 192.0.2.9", ["2001:db8::/32", "192.0.2.9/32"]),
        ("192.0.2.1/24", ["192.0.2.0/24"]),
        ("cidr:/etc/postfix/x hash:/y mail.example.com .example.com", []),
        ("!192.0.2.5 192.0.2.0/24 198.51.100.0/24", ["198.51.100.0/24"]),
        ("192.0.2.0/24 !192.0.2.5", ["192.0.2.0/24"]),
        ("![2001:db8::5] 192.0.2.0/24 [2001:db8::]/32", ["192.0.2.0/24"]),
        ("/no/such/file 192.0.2.0/24", ["192.0.2.0/24"]),
    ],
)
def test_mynetworks_is_read_as_postfix_reads_it(text, expected):
    assert networks(text) == expected


def test_files_of_mynetworks_are_read(tmp_path):
    file = tmp_path / "mynetworks"
    file.write_text("# ours\n192.0.2.0/24\n[2001:db8::]/32, 198.51.100.1\n")
    assert networks(f"10.0.0.0/8 {file}") == [
        "10.0.0.0/8",
        "192.0.2.0/24",
        "2001:db8::/32",
        "198.51.100.1/32",
    ]
    assert networks(f"!{file} 192.0.0.0/16 10.0.0.0/8") == ["10.0.0.0/8"]


def test_file_that_names_itself_does_not_go_on_for_ever(tmp_path):
    file = tmp_path / "mynetworks"
    file.write_text(f"{file} 192.0.2.0/24\n")
    assert networks(str(file)) == ["192.0.2.0/24"]


def test_first_and_last_address_of_a_network_are_ignored_and_no_other():
    listed = ignore("192.0.2.0/25", "2001:db8::/32")
    assert why_ignored("192.0.1.255", listed) is None
    assert why_ignored("192.0.2.0", listed) == "192.0.2.0 is in the ignored network 192.0.2.0/25"
    assert why_ignored("192.0.2.127", listed)
    assert why_ignored("192.0.2.128", listed) is None
    assert why_ignored("2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", listed) is None
    assert why_ignored("2001:db8::", listed)
    assert why_ignored("2001:db9::", listed) is None


def test_loopback_is_ignored_without_being_listed():
    assert why_ignored("127.0.0.1", ignore()) == "127.0.0.1 is loopback"
    assert why_ignored("::1", ignore()) == "::1 is loopback"


def test_postfix_is_asked_where_it_is_installed():
    found = [str(network) for network in postfix_mynetworks()]
    assert "127.0.0.0/8" in found


@pytest.mark.parametrize("script", ["exit 1", "echo 192.0.2.0/24 >&2", "kill -9 $$", "sleep 60"])
def test_postconf_that_fails_ignores_nothing(tmp_path, script):
    postconf = tmp_path / "postconf"
    postconf.write_text(f"#!/bin/sh\n{script}\n")
    postconf.chmod(0o755)
    assert postfix_mynetworks(str(postconf)) == []


def test_without_postfix_nothing_is_ignored(tmp_path):
    assert postfix_mynetworks(str(tmp_path / "postconf")) == []
