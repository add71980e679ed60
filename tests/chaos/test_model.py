"""The judge itself: it has to complain about wrong histories, and about nothing else."""

import pytest

from tests.chaos.model import (
    QUEUED_S,
    TOMBSTONE_S,
    Attempt,
    History,
    Revocation,
    Row,
    ShortGrace,
    Window,
    violations,
)

ADDRESS = "192.0.2.7"
NOW = 1_800_000_000.0


def login(began, outcome="ok", *, took=0.1, counts=True, address=ADDRESS):
    return Attempt(address, "alice", "line", NOW + began, NOW + began + took, outcome, counts)


def revoked(began, *, took=0.5, done=True):
    return Revocation(frozenset({ADDRESS}), NOW + began, NOW + began + took, done)


def judge(attempts, row=None, **more):
    """Return what is said of a table that holds one row seen at NOW + *row*, or nothing."""
    rows = [] if row is None else [Row(ADDRESS, NOW + row, "alice")]
    history = History(attempts=attempts, refresh_s=4.0, **more)
    return violations(history, rows, NOW + 100)


def window(began, ended):
    return Window(NOW + began, NOW + ended)


@pytest.mark.parametrize(
    ("attempts", "row", "more"),
    [
        ([], None, {}),
        ([login(0)], 0, {}),
        ([login(0)], -4, {}),
        ([login(0, "logged")], 0, {}),
        ([login(0, "unknown")], None, {}),
        ([login(0, "unknown")], 0, {}),
        ([login(0, "no")], None, {}),
        ([login(0), login(50, "unknown")], 0, {}),
        ([login(0), login(50, "unknown")], 50, {}),
        ([login(0), login(50, counts=False)], 0, {}),
        ([login(0, counts=False)], None, {}),
        ([login(0)], None, {"revocations": [revoked(1)]}),
        ([login(0)], 0, {"revocations": [revoked(1, done=False)]}),
        ([login(0, took=2)], 2, {"revocations": [revoked(1)]}),
        ([login(0), login(5)], 5, {"revocations": [revoked(1)]}),
        ([login(0)], -TOMBSTONE_S, {"revocations": [revoked(1)]}),
        ([login(0)], None, {"losses": [window(1, 2)]}),
        ([login(3)], None, {"losses": [window(1, 2)], "crashes": [window(4, 14)]}),
        ([login(0, took=2)], 20, {"stalls": [window(1, 20)]}),
        ([login(0)], 20, {"stalls": [window(1, 20)]}),
        ([login(0)], None, {"short_graces": [ShortGrace(NOW + 20, NOW + 23, 12)]}),
    ],
)
def test_what_may_be_so_is_no_violation(attempts, row, more):
    assert judge(attempts, row, **more) == []


@pytest.mark.parametrize(
    ("attempts", "row", "more", "said"),
    [
        ([login(0)], None, {}, "found no row"),
        ([login(0, "logged")], None, {}, "found no row"),
        ([login(0), login(50)], 0, {}, "older by 50.0 s"),
        ([login(0)], -7, {}, "older by 7.0 s"),
        ([login(0)], 6, {}, "younger by 5.9 s"),
        ([login(0, "unknown")], 20, {}, "younger by 19.9 s"),
        ([login(0), login(50, counts=False)], 50, {}, "younger by"),
        ([], 0, {}, "nobody logged in"),
        ([login(0, counts=False)], 0, {}, "expected no row (only"),
        ([login(0)], 0, {"revocations": [revoked(1)]}, "expected no row (revoked"),
        ([login(0)], 1, {"revocations": [revoked(1)]}, "expected no row (revoked"),
        ([login(0), login(5)], None, {"revocations": [revoked(1)]}, "found no row"),
        ([login(0), login(5)], 1, {"revocations": [revoked(3.5)]}, "older by 4.0 s"),
        ([login(0), login(5)], -TOMBSTONE_S, {"revocations": [revoked(1)]}, "found no row"),
        ([login(3)], None, {"losses": [window(1, 2)]}, "found no row"),
        ([login(3)], None, {"crashes": [window(4, 14)]}, "found no row"),
        ([login(3)], None, {"losses": [window(1, 2)], "crashes": [window(6, 9)]}, "found no row"),
        (
            [login(10)],
            None,
            {"losses": [window(1, 2)], "crashes": [window(11, 11)]},
            "found no row",
        ),
        ([login(0, took=2)], 30, {"stalls": [window(1, 20)]}, "younger by 10.0 s"),
        ([login(0)], 23, {"stalls": [window(1, 20)]}, "younger by 3.9 s"),
        ([login(30)], 34, {"stalls": [window(1, 20)]}, "younger by 3.9 s"),
        ([login(15)], None, {"short_graces": [ShortGrace(NOW + 20, NOW + 23, 12)]}, "no row"),
    ],
)
def test_what_may_not_be_so_is_a_violation(attempts, row, more, said):
    (violation,) = judge(attempts, row, **more)
    assert violation.startswith(f"{ADDRESS}: ")
    assert said in violation


def test_lag_of_the_machine_excuses_a_younger_row_and_no_missing_one():
    history = History(attempts=[login(0)], refresh_s=4.0)
    assert violations(history, [Row(ADDRESS, NOW + 6, "alice")], NOW + 100, lag_s=5) == []
    assert violations(history, [], NOW + 100, lag_s=5) != []


def test_each_address_is_judged_by_itself():
    history = History(attempts=[login(0), login(0, address="192.0.2.8")], refresh_s=4.0)
    (violation,) = violations(history, [Row(ADDRESS, NOW, "alice")], NOW + 100)
    assert violation.startswith("192.0.2.8: expected")


@pytest.mark.parametrize(
    ("source", "took", "after_s", "said"),
    [("log", 0, 3.9, 0), ("log", 0, 4.1, 1), ("line", 0.1, 0.1, 1), ("line", 1, 1.9, 0)],
)
def test_a_login_with_an_age_may_not_count_just_after_a_revocation(source, took, after_s, said):
    began = NOW + 1.5 + after_s
    asked = Attempt(ADDRESS, "alice", source, began, began + took, "ok")
    history = History(attempts=[asked], revocations=[revoked(1)])
    assert len(violations(history, [], NOW + 100)) == said


@pytest.mark.parametrize(
    ("source", "older_s", "said"),
    [("line", 5.9, 0), ("line", 6.1, 1), ("log", 7.9, 0), ("log", 8.1, 1)],
)
def test_remembered_login_is_older_by_refresh_and_what_its_times_are_rounded_by(
    source, older_s, said
):
    began = NOW + 80
    outcome = "logged" if source == "log" else "ok"
    asked = Attempt(ADDRESS, "alice", source, began, began, outcome)
    rows = [Row(ADDRESS, began - older_s, "alice")]
    history = History(attempts=[asked], refresh_s=4.0)
    assert len(violations(history, rows, NOW + 100)) == said


@pytest.mark.parametrize(
    ("source", "took", "queued", "older_s", "said"),
    [
        ("postlogin", 5, False, QUEUED_S, 0),
        ("postlogin", 5, False, QUEUED_S + 10, 1),
        ("postlogin", 0.2, False, QUEUED_S, 1),
        ("postlogin", 0.2, True, QUEUED_S, 0),
        ("postlogin", 0.2, True, QUEUED_S + 10, 1),
        ("line", 5, True, QUEUED_S, 1),
    ],
)
def test_only_a_request_without_a_time_that_waited_may_be_older(
    source, took, queued, older_s, said
):
    began = NOW + 80
    asked = Attempt(ADDRESS, "alice", source, began, began + took, "ok", queued=queued)
    rows = [Row(ADDRESS, began - older_s, "alice")]
    assert len(violations(History(attempts=[asked]), rows, NOW + 100)) == said
