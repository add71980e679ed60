"""Names from outside become text that every database and every log takes."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.login import LONGEST_SERVICE, LONGEST_USER, Login, make_login

ADDRESS = "198.51.100.7"
# What an environment variable or a socket can hold.
raw_names = st.binary() | st.binary(min_size=250, max_size=2000)


def check_name(name, longest):
    assert name is None or (name.isprintable() and 0 < len(name) <= longest)
    if name is not None:
        name.encode("utf-8")


@given(raw_names, raw_names)
def test_bytes_become_printable_text_of_bounded_length(user, service):
    login = make_login(ADDRESS, user, service)
    check_name(login.user, LONGEST_USER)
    check_name(login.service, LONGEST_SERVICE)


@given(raw_names)
def test_environment_text_is_treated_as_its_bytes(user):
    assert make_login(ADDRESS, os.fsdecode(user), None) == make_login(ADDRESS, user, None)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_is_taken_as_str_or_utf8(user):
    login = make_login(ADDRESS, user, user)
    check_name(login.user, LONGEST_USER)
    assert login == make_login(ADDRESS, user.encode(), user.encode())


@given(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=LONGEST_USER))
def test_printable_name_stays_as_it_is(user):
    assert make_login(ADDRESS, user, None).user == user


@given(raw_names)
def test_escaping_what_is_escaped_changes_nothing(user):
    once = make_login(ADDRESS, user, None)
    assert make_login(ADDRESS, once.user, None) == once


@given(st.text(max_size=60))
def test_only_canonical_addresses_make_a_login(text):
    try:
        login = make_login(text, None, None)
    except ValueError:
        return
    assert canonical_address(login.address) == login.address


@pytest.mark.parametrize(
    ("user", "stored"),
    [
        (None, None),
        ("", None),
        (b"", None),
        ("ann@example.net", "ann@example.net"),
        ("jörg", "jörg"),
        (b"a\xffb", "a\\xffb"),
        ("a\udcffb", "a\\xffb"),
        ("a\nb\0c", "a\\nb\\x00c"),
        ("\u202eevil", "\\u202eevil"),
        ("x" * 300, "x" * 255),
    ],
)
def test_name_is_stored_as(user, stored):
    assert make_login(ADDRESS, user, None).user == stored


@pytest.mark.parametrize(("age_s", "stored"), [(0, 0), (0.1, 1), (1, 1), (1.5, 2), (-5, 0)])
def test_age_is_rounded_up_so_that_nobody_relays_longer(age_s, stored):
    assert make_login(ADDRESS, None, None, age_s).age_s == stored


@pytest.mark.parametrize("text", ["127", "::FFFF:c633:6407", "fe80::1%eth0", "198.51.100.7 ", ""])
def test_login_itself_takes_nothing_but_canonical_addresses(text):
    with pytest.raises(ValueError, match="is not"):
        Login(text)


def test_login_cannot_be_in_the_future():
    with pytest.raises(ValueError, match="in the future"):
        Login(ADDRESS, age_s=-1)


def test_a_surrogate_that_hides_no_byte_is_escaped():
    assert make_login("192.0.2.1", "a\ud800b", None).user == "a\\ud800b"
    assert make_login("192.0.2.1", "a\udcffb", None).user == "a\\xffb"
