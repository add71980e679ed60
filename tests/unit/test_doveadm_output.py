"""What `doveadm -f json who -1` of 2.3.19.1 and 2.4.1 prints, and what nobody may forge."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.dovecot.doveadm_output import open_addresses

SAMPLE_23 = (
    b'[{"username":"alice","service":"imap","pid":"25768","ip":"198.51.100.7"},'
    b'{"username":"alice","service":"imap","pid":"25766","ip":"198.51.100.7"},'
    b'{"username":"bob@example.com","service":"imap","pid":"25776","ip":"::ffff:198.51.100.10"},'
    b'{"username":"c(198.51.100.99)","service":"imap","pid":"25780","ip":"198.51.100.20"},'
    b'{"username":"alice","service":"imap","pid":"25770","ip":"198.51.100.8"},'
    b'{"username":"d\\te","service":"imap","pid":"25782","ip":"198.51.100.20"},'
    b'{"username":"alice","service":"pop3","pid":"25774","ip":"198.51.100.9"},'
    b'{"username":"bob@example.com","service":"imap","pid":"25778","ip":"127.0.0.1"},'
    b'{"username":"alice","service":"imap","pid":"25772","ip":"2001:db8::7"}]'
)
SAMPLE_24 = (
    b'[{"username":"alice","service":"imap","pid":"2282","ip":"198.51.100.7","dest_ip":"",'
    b'"user_x":""},{"username":"alice","service":"imap","pid":"2286",'
    b'"ip":"::ffff:198.51.100.8","dest_ip":"","user_x":""},{"username":"d\\te","service":"imap",'
    b'"pid":"2290","ip":"198.51.100.20","dest_ip":"","user_x":"zz"},{"username":"alice",'
    b'"service":"pop3","pid":"2288","ip":"198.51.100.9","dest_ip":"","user_x":""}]'
)
# Without -1: the array of 2.3 ends after its first object.
AGGREGATED_23 = (
    b'[{"username":"a","connections":"1","service":"imap","pids":"(1)","ips":"(198.51.100.20)"}],'
    b'{"username":"b","connections":"1","service":"imap","pids":"(2)","ips":"(198.51.100.21)"}'
)
TABBED = b"username\tproto\tpid\tip\nalice\timap\t1\t198.51.100.7\n"


def session(**fields):
    return {"username": "alice", "service": "imap", "pid": "1", "ip": "198.51.100.7"} | fields


def printed(*sessions):
    return json.dumps(sessions).encode()


def addresses(output):
    return list(open_addresses(output))


def test_sessions_of_dovecot_2_3_are_told():
    assert addresses(SAMPLE_23) == [
        "198.51.100.7",
        "198.51.100.7",
        "198.51.100.10",
        "198.51.100.20",
        "198.51.100.8",
        "198.51.100.20",
        "198.51.100.9",
        "127.0.0.1",
        "2001:db8::7",
    ]


def test_sessions_of_dovecot_2_4_are_told():
    assert addresses(SAMPLE_24) == ["198.51.100.7", "198.51.100.8", "198.51.100.20", "198.51.100.9"]


@pytest.mark.parametrize("empty", [b"[]", b"[ ]\n", b"\n[\n]\n"])
def test_no_session_is_no_error(empty):
    assert addresses(empty) == []


@pytest.mark.parametrize(
    "service", ["lmtp", "submission", "sieve", "managesieve", "doveadm", "IMAP", "imap-login", ""]
)
def test_who_does_not_read_mail_does_not_count(service):
    assert addresses(printed(session(service=service), session(ip="198.51.100.8"))) == [
        "198.51.100.8"
    ]


def test_a_session_without_an_address_does_not_count():
    assert addresses(printed(session(ip=""))) == []


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"[",
        b"]",
        b"null",
        b"[]]",
        b"[] Error: net_connect_unix() failed",
        b"[[]]",
        b"[1]",
        b"[{}]",
        b"[" * 100_000,
        TABBED,
        AGGREGATED_23,
        SAMPLE_23[:-1],
        SAMPLE_23[:-2],
        SAMPLE_23[:200],
        SAMPLE_23 + SAMPLE_23,
        SAMPLE_23.replace(b"},{", b"}{", 1),
        SAMPLE_23.replace(b"},{", b"},,{", 1),
        SAMPLE_23[:-1] + b",]",
        b'[{"username":"a","service":"imap","pid":"1","ip":"198.51.100.7","ip":"198.51.100.8"}]',
        printed(session(ip="198.51.100")),
        printed(session(ip="-")),
        printed(session(ip="fe80::1%eth0")),
        printed(session(ip=None)),
        printed(session(ip=["198.51.100.7"])),
        printed(session(pid="")),
        printed(session(pid=1)),
        printed(session(pid="198.51.100.7")),
        printed(session(pid="\u0661")),
        printed(session(service=None)),
        printed(session(username=None)),
        printed(session(dest_ip="alice")),
        printed(session(service="lmtp", ip="alice")),
    ],
)
def test_what_doveadm_does_not_print_counts_as_a_whole_for_nothing(output):
    with pytest.raises(ValueError, match=r".") as trouble:
        addresses(output)
    assert str(trouble.value).isascii()
    assert len(str(trouble.value)) < 200


def test_columns_that_moved_count_for_nothing():
    """As if a row of 2.4 had a field more than the header: each value slides by one."""
    values = ["alice", "imap", "7", "198.51.100.7", "", "imap"]
    names = ["username", "service", "pid", "ip", "dest_ip"]
    slid = (values * 5)[: 5 * len(names)]
    rows = [dict(zip(names, slid[n : n + 5], strict=True)) for n in range(0, len(slid), 5)]
    with pytest.raises(ValueError, match=r"not what doveadm|is not an IPv4"):
        addresses(printed(*rows))


NAMES = st.text() | st.sampled_from(
    [
        '","ip":"192.0.2.66","x":"',
        '"},{"username":"x","service":"imap","pid":"1","ip":"192.0.2.66"},{"username":"',
        "imap\t1\t192.0.2.66\n",
        "x\nimap\t1\t192.0.2.66",
        "(192.0.2.66)",
        "192.0.2.66/x",
        "\\",
        "\\u0022",
        "\x01t192.0.2.66",
    ]
)


@given(st.lists(st.tuples(NAMES, st.sampled_from(["imap", "pop3", "lmtp"]))), st.booleans())
def test_no_user_name_makes_an_address(names, ascii_only):
    rows = [session(username=name, service=service) for name, service in names]
    output = json.dumps(rows, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    expected = ["198.51.100.7" for _, service in names if service != "lmtp"]
    assert addresses(output) == expected


@given(
    st.binary(max_size=40).filter(
        lambda name: not {0x22, 0x5C} & set(name) and min(name, default=32) > 31
    )
)
def test_no_bytes_of_a_user_name_make_an_address(name):
    """Dovecot 2.3 prints a name that is no UTF-8 as it is."""
    output = b'[{"username":"%s","service":"imap","pid":"1","ip":"198.51.100.7"}]' % name
    assert addresses(output) == ["198.51.100.7"]


@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_addresses_or_a_value_error(output):
    try:
        found = addresses(output)
    except ValueError:
        return
    assert all(canonical_address(address) == address for address in found)
