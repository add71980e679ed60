"""Dovecot's post-login requests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.protocols.script_login import LONGEST_REQUEST, Request, is_complete, parse

VERSION = b"VERSION\tscript-login\t1\t0\n"
# What Dovecot 2.3.19 sent for a user with two userdb fields.
CAPTURED = VERSION + (
    b"127.0.0.1\t198.51.100.7\tbob\thome=/var/mail/bob\tquota_rule=*:bytes=1M\tmyfield=a"
    b"\tuid=5000\tgid=5000\tauth_mech=PLAIN\n"
)
ESCAPES = {b"\0": b"0", b"\1": b"1", b"\t": b"t", b"\r": b"r", b"\n": b"n"}


def escape(value):
    """Return *value* as Dovecot's str_append_tabescaped() writes it."""
    pairs = (bytes([byte]) for byte in value)
    return b"".join(b"\1" + ESCAPES[byte] if byte in ESCAPES else byte for byte in pairs)


def request(user, *fields, remote=b"198.51.100.7"):
    return VERSION + b"\t".join([b"192.0.2.1", remote, user, *fields]) + b"\n"


def test_login_is_parsed_and_its_reply_is_what_follows_the_second_tab():
    assert parse(CAPTURED) == Request(
        remote="198.51.100.7",
        user=b"bob",
        master=False,
        reply=CAPTURED.partition(b"\t198.51.100.7\t")[2],
        local="127.0.0.1",
    )


def test_login_without_fields_is_a_login():
    assert parse(request(b"bob")) == Request(
        "198.51.100.7", b"bob", False, b"bob\n", local="192.0.2.1"
    )


@pytest.mark.parametrize("minor", [b"0", b"1", b"27"])
def test_minor_version_does_not_matter(minor):
    later = CAPTURED.replace(b"\t1\t0\n", b"\t1\t" + minor + b"\n", 1)
    assert parse(later) == parse(CAPTURED)


@pytest.mark.parametrize(
    ("remote", "read"),
    [
        (b"2001:db8::7", "2001:db8::7"),
        (b"::ffff:198.51.100.7", "::ffff:198.51.100.7"),
        (b"", ""),
        (b"unknown", "unknown"),
        (b"198.51.100.7\xe4\xff", r"198.51.100.7\xe4\xff"),
    ],
)
def test_what_is_no_address_costs_no_login(remote, read):
    found = parse(request(b"bob", b"uid=5000", remote=remote))
    assert (found.remote, found.reply) == (read, b"bob\tuid=5000\n")


@pytest.mark.parametrize(
    ("fields", "master"),
    [
        ([b"master_user=root1"], True),
        ([b"uid=5000", b"Master_User=root1", b"gid=5000"], True),
        ([b"master_user="], False),
        ([b"master_user"], False),
        ([b"master_user=", b"gid=5000"], False),
        ([b"not_master_user=root1"], False),
        ([b"note=master_user=root1"], False),
        ([b"note=\1tmaster_user=root1"], False),
    ],
)
def test_only_the_field_master_user_with_a_value_tells_an_administrator(fields, master):
    assert parse(request(b"bob", *fields)).master == master


@pytest.mark.parametrize(
    ("fields", "anonymous"),
    [
        ([b"auth_mech=ANONYMOUS"], True),
        ([b"uid=5000", b"Auth_Mech=anonymous", b"gid=5000"], True),
        ([b"anonymous"], True),
        ([b"anonymous", b"gid=5000"], True),
        ([b"anonymous=y"], True),
        ([b"auth_mech=PLAIN"], False),
        ([b"auth_mech=ANONYMOUS-PLUS"], False),
        ([b"auth_mech="], False),
        ([b"not_anonymous=y"], False),
        ([b"anonymously=y"], False),
        ([b"note=anonymous"], False),
        ([b"note=\1tauth_mech=ANONYMOUS"], False),
    ],
)
def test_mechanism_or_mark_tells_an_anonymous_login(fields, anonymous):
    assert parse(request(b"bob", *fields)).anonymous == anonymous


def test_user_called_anonymous_is_somebody():
    assert not parse(request(b"anonymous")).anonymous


def test_user_called_like_the_field_is_no_administrator():
    assert not parse(request(b"master_user=root1")).master


@pytest.mark.parametrize(
    ("written", "user"),
    [
        (b"\x010\x011\x01t\x01r\x01n", b"\0\1\t\r\n"),
        (b"a\1xb", b"axb"),
        (b"a\1", b"a"),
        (b"a\1\1nb", b"a\1nb"),
        (b"bob@example.com", b"bob@example.com"),
    ],
)
def test_user_is_unescaped_as_dovecot_does_it_and_the_reply_is_not(written, user):
    found = parse(request(written))
    assert (found.user, found.reply) == (user, written + b"\n")


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"", "not version 1 of script-login: b''"),
        (b"\n\n", "not version 1 of script-login: b''"),
        (b"GET / HTTP/1.1\r\n\r\n", r"not version 1 of script-login: b'GET / HTTP/1.1\r'"),
        (b"popbsmtp/1\t198.51.100.7\t\t\n", "not version 1 of script-login: b'popbsmtp/1"),
        (CAPTURED.replace(b"\t1\t0", b"\t2\t0", 1), "not version 1 of script-login"),
        (CAPTURED.replace(b"\t1\t0", b"\t10\t0", 1), "not version 1 of script-login"),
        (CAPTURED.replace(b"\t1\t0", b"\t1\tx", 1), "not version 1 of script-login"),
        (CAPTURED.replace(b"\t1\t0", b"\t1", 1), "not version 1 of script-login"),
        (CAPTURED.replace(b"\n", b"\r\n"), "not version 1 of script-login"),
        (CAPTURED.replace(b"script-login", b"master-login"), "not version 1 of script-login"),
        (b"\x1b[2J" + CAPTURED, r"not version 1 of script-login: b'\x1b[2JVERSION"),
        (VERSION, f"{len(VERSION)} bytes without the end of the second line"),
        (CAPTURED[:-1], "bytes without the end of the second line"),
        (VERSION + b"\n", "fewer than 3 fields: b''"),
        (VERSION + b"192.0.2.1\t198.51.100.7\n", r"fewer than 3 fields: b'192.0.2.1\t198"),
        (request(b""), "no user name"),
        (request(b"", b"uid=5000"), "no user name"),
        (request(b"\1"), "no user name"),
        (CAPTURED + b"x", "more after the second line: b'x'"),
        (CAPTURED + b"\n", r"more after the second line: b'\n'"),
        (CAPTURED * 2, r"more after the second line: b'VERSION\tscript-login"),
    ],
)
def test_other_bytes_are_refused_and_named(received, reason):
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the words are looked at below
        parse(received)
    assert reason in str(refusal.value)


def test_longest_request_is_parsed_and_a_byte_more_is_refused():
    room = LONGEST_REQUEST - len(request(b"bob", b"note="))
    longest = request(b"bob", b"note=" + b"x" * room)
    assert len(longest) == LONGEST_REQUEST
    assert parse(longest).user == b"bob"
    with pytest.raises(ValueError, match=r"^more than 32768 bytes$"):
        parse(request(b"bob", b"note=" + b"x" * (room + 1)))


def test_reading_stops_at_the_longest_request():
    assert not is_complete(b"x" * LONGEST_REQUEST)
    assert is_complete(b"x" * (LONGEST_REQUEST + 1))


@given(st.integers(0, len(CAPTURED)))
def test_request_is_complete_with_its_last_byte_and_never_before(split):
    assert is_complete(CAPTURED[:split]) == (split == len(CAPTURED))


@given(
    st.one_of(
        st.binary(max_size=2000),
        st.binary(max_size=2000).map(lambda rest: VERSION + rest),
        st.lists(st.binary(max_size=60), max_size=6).map(
            lambda fields: VERSION + b"\t".join(fields) + b"\n"
        ),
    )
)
def test_any_bytes_are_a_request_or_one_printable_line_of_refusal(received):
    try:
        found = parse(received)
    except ValueError as error:
        assert str(error).isascii()
        assert str(error).isprintable()
        return
    assert is_complete(received)
    assert received.endswith(b"\t" + found.reply)
    assert found.user
    assert found.remote.isascii()


@given(
    st.binary(min_size=1, max_size=300),
    st.lists(st.binary(max_size=100).map(lambda value: b"note=" + value), max_size=5),
)
def test_every_user_comes_back_as_dovecot_escaped_it(user, fields):
    escaped = [escape(user), *(escape(field) for field in fields)]
    found = parse(request(*escaped))
    assert (found.user, found.master) == (user, False)
    assert found.reply == b"\t".join(escaped) + b"\n"
