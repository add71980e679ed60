"""Addresses from which many users log in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.recorder.shared_addresses import SharedAddresses

NAT, OTHER = "198.51.100.7", "2001:db8::7"
GRACE_S = 1800


def many(count, *, shared_users=3, at=0.0, address=NAT, **bounds):
    """Return the counter after *count* users have logged in from *address* at *at*."""
    shared = SharedAddresses(shared_users, GRACE_S, **bounds)
    for number in range(count):
        shared.add(Login(address, f"user{number}"), at)
    return shared


def test_address_is_shared_from_one_user_more_than_it_may_have():
    shared = SharedAddresses(3, GRACE_S)
    found = [shared.add(Login(NAT, name), 0.0) for name in ("ann", "bob", "cleo", "dora", "eve")]
    assert found == [0, 0, 0, 4, 4]
    assert shared.shared(0.0) == [NAT]


def test_user_who_logs_in_again_counts_once():
    shared = many(3)
    assert [shared.add(Login(NAT, "user1"), 1.0) for _ in range(10)] == [0] * 10
    assert shared.users == 3


def test_users_of_other_addresses_do_not_count():
    shared = many(3)
    assert shared.add(Login(OTHER, "dora"), 0.0) == 0
    assert shared.shared(0.0) == []


def test_login_without_a_user_counts_for_nobody():
    shared = many(3)
    assert shared.add(Login(NAT), 0.0) == 0
    assert shared.add(Login(OTHER), 0.0) == 0
    assert len(shared) == 1
    assert shared.add(Login(NAT, "dora"), 0.0) == 4
    assert shared.add(Login(NAT), 0.0) == 4


@pytest.mark.parametrize(("later_s", "users"), [(1799, 4), (1800, 4), (1800.5, 0), (1801, 0)])
def test_user_counts_until_grace_is_over_as_a_row_does(later_s, users):
    assert many(3).add(Login(NAT, "dora"), later_s) == users


@pytest.mark.parametrize(("later_s", "is_shared"), [(1799, True), (1800, True), (1801, False)])
def test_address_is_shared_until_grace_is_over(later_s, is_shared):
    shared = many(4)
    assert bool(shared.users_if_shared(NAT, later_s)) == is_shared
    assert bool(shared.shared(later_s)) == is_shared


def test_login_that_is_read_late_counts_from_when_it_was():
    shared = many(3, at=1000.0)
    assert shared.add(Login(NAT, "dora", age_s=900), 1000.0) == 4
    assert shared.users_if_shared(NAT, 100.0 + GRACE_S) == 4
    assert shared.users_if_shared(NAT, 101.0 + GRACE_S) == 0


def test_late_login_does_not_make_its_user_older():
    shared = many(4, at=1000.0)
    shared.add(Login(NAT, "user0", age_s=900), 1000.0)
    assert shared.users_if_shared(NAT, 1000.0 + GRACE_S) == 4


def test_newest_users_are_kept_and_no_more_than_needed():
    shared = many(100, shared_users=3)
    assert shared.users == 4
    # user96 to user99 are left, so user0 is a new one, and the oldest of them goes.
    shared.add(Login(NAT, "user0"), 10.0)
    assert shared.users == 4
    assert shared.users_if_shared(NAT, 10.0) == 4


def test_address_is_news_once_in_grace():
    shared = many(4)
    assert not shared.is_news(OTHER, 0.0)
    assert shared.is_news(NAT, 0.0)
    news = []
    for now in (0, 1, 1799, 1800, 1801, 1802, 3601, 3602):
        shared.add(Login(NAT, "user0"), float(now))
        news.append(shared.is_news(NAT, float(now)))
    assert news == [False, False, False, False, True, False, False, True]


def test_lower_limit_holds_at_once_and_a_higher_one_from_what_is_kept():
    shared = many(4, shared_users=10)
    assert shared.users_if_shared(NAT, 0.0) == 0
    shared.adopt(3, GRACE_S)
    assert shared.users_if_shared(NAT, 0.0) == 4
    shared.adopt(1, GRACE_S)
    assert shared.users_if_shared(NAT, 0.0) == 2
    assert shared.users == 2
    shared.adopt(3, GRACE_S)
    assert [shared.add(Login(NAT, name), 0.0) for name in ("ann", "bob")] == [0, 4]


def test_other_grace_holds_at_once():
    shared = many(4)
    shared.adopt(3, 60)
    assert shared.users_if_shared(NAT, 60.0) == 4
    assert shared.users_if_shared(NAT, 61.0) == 0


def test_addresses_are_forgotten_after_grace():
    shared = SharedAddresses(1, GRACE_S)
    for number in range(200):
        for name in ("ann", "bob"):
            shared.add(Login(f"203.0.113.{number}", name), float(number))
    assert (len(shared), shared.users) == (200, 400)
    # Some at a time, so that no login pays for all.
    for _ in range(20):
        shared.add(Login(NAT, "ann"), 199.0 + GRACE_S)
    assert (len(shared), shared.users) == (2, 3)
    shared.add(Login(NAT, "ann"), 200.0 + GRACE_S)
    assert (len(shared), shared.users) == (1, 1)
    assert shared.shared(200.0 + GRACE_S) == []


def test_only_so_many_addresses_are_kept_and_the_one_silent_for_longest_goes():
    shared = SharedAddresses(1, GRACE_S, most_addresses=2)
    for address in (NAT, OTHER, NAT):
        for name in ("ann", "bob"):
            shared.add(Login(address, name), 0.0)
    shared.add(Login("192.0.2.1", "ann"), 0.0)
    assert len(shared) == 2
    assert shared.shared(0.0) == [NAT]


def test_only_so_many_users_are_kept_in_all():
    shared = SharedAddresses(10, GRACE_S, most_users=25)
    for number in range(100):
        for name in "abcdefghij":
            shared.add(Login(f"203.0.113.{number}", name), 0.0)
            assert shared.users <= 25
    assert len(shared) == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 5, 9, 10, 11]),  # seconds since the step before
        st.sampled_from([NAT, OTHER]),
        st.sampled_from([None, "ann", "bob", "cleo", "dora", "eve"]),
        st.sampled_from([0, 0, 0, 1, 9, 10]),  # the age
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 4))
def test_counts_are_those_of_a_list_of_all_logins(steps, shared_users):
    grace_s = 10
    shared, logins, now = SharedAddresses(shared_users, grace_s), [], 100
    for passed_s, address, user, age_s in steps:
        now += passed_s
        found = shared.add(Login(address, user, age_s=age_s), now)
        logins.append((address, user, now - age_s))
        expected = {}
        for where in (NAT, OTHER):
            users = {
                name
                for seen_at, name, moment in logins
                if seen_at == where and name is not None and now - moment <= grace_s
            }
            expected[where] = shared_users + 1 if len(users) > shared_users else 0
        assert found == expected[address]
        assert {where: shared.users_if_shared(where, now) for where in expected} == expected
        assert shared.shared(now) == [where for where in (NAT, OTHER) if expected[where]]
