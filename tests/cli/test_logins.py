"""record, check, list, revoke and expire on SQLite; tests/store has them on every database."""

import json
import re
from datetime import datetime

import pytest

CLIENT = "198.51.100.7"


def test_a_recorded_address_may_relay(toolkit):
    done = toolkit("record", CLIENT, "--user", "alice", "--service", "imap")
    assert (done.status, done.out) == (0, f"{CLIENT} may relay for 1800 s\n")
    done = toolkit("check", CLIENT)
    assert done.status == 0
    assert 1795 <= int(done.out) <= 1800


def test_an_unknown_address_may_not_relay(toolkit):
    done = toolkit("check", CLIENT)
    assert (done.status, done.out, done.err) == (1, "", f"popbsmtp: {CLIENT} may not relay\n")


@pytest.mark.parametrize(("age_s", "status"), [(1740, 0), (1795, 0), (1801, 1), (1860, 1)])
def test_thirty_minutes_decide(toolkit, age_s, status):
    toolkit("record", CLIENT)
    toolkit.age(CLIENT, age_s)
    assert toolkit("check", CLIENT).status == status


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("::ffff:198.51.100.7", CLIENT),
        (CLIENT, "::FFFF:c633:6407"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
    ],
)
def test_every_spelling_is_the_same_address(toolkit, given, asked):
    assert toolkit("record", given).status == 0
    assert toolkit("check", asked).status == 0


def test_list_shows_newest_first_with_the_time_left(toolkit):
    toolkit("record", CLIENT, "--user", "alice", "--service", "imap")
    toolkit("record", "2001:db8::7")
    toolkit.age(CLIENT, 60)
    toolkit("record", "203.0.113.5")
    toolkit.age("203.0.113.5", 1900)
    lines = toolkit("list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["2001:db8::7", CLIENT, "203.0.113.5"]
    assert re.fullmatch(
        rf"{CLIENT} +2[89]m \d\ds left  \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ  imap alice", lines[1]
    )
    assert "expired" in lines[2]


def test_list_json_is_an_array_of_the_promised_keys(toolkit):
    assert json.loads(toolkit("list", "--json").out) == []
    toolkit("record", CLIENT, "--user", "ålice", "--service", "pop3")
    toolkit.age(CLIENT, 1830)
    (entry,) = json.loads(toolkit("list", "--json").out)
    assert list(entry) == [
        "address", "user", "service", "first_seen", "last_seen", "expires_at", "remaining_s",
    ]  # fmt: skip
    assert entry["address"] == CLIENT
    assert entry["user"] == "ålice"
    assert entry["service"] == "pop3"
    assert -35 <= entry["remaining_s"] <= -30
    last_seen, expires_at = (
        datetime.fromisoformat(entry[key]) for key in ("last_seen", "expires_at")
    )
    assert (expires_at - last_seen).total_seconds() == 1800
    assert entry["first_seen"].endswith("Z")


def test_a_time_that_no_calendar_has_does_not_break_the_list(toolkit):
    toolkit("record", CLIENT)
    toolkit("record", "198.51.100.8")
    toolkit.age(CLIENT, -(10**15))
    toolkit.age("198.51.100.8", 10**15)
    first, second = json.loads(toolkit("list", "--json").out)
    assert first["last_seen"] == "9999-12-31T23:59:59Z"
    assert second["last_seen"] == "0001-01-01T00:00:00Z"
    assert toolkit("check", CLIENT).status == 1


def test_revoke_takes_the_right_away_until_the_next_login(toolkit):
    for address in (CLIENT, "198.51.100.8", "198.51.100.9"):
        toolkit("record", address)
    assert toolkit("revoke", CLIENT, "::ffff:198.51.100.8").out == "2\n"
    assert toolkit("check", CLIENT).status == 1
    assert toolkit("check", "198.51.100.9").status == 0
    assert toolkit("revoke", "--all").out == "1\n"
    assert toolkit("check", "198.51.100.9").status == 1
    assert toolkit("revoke", CLIENT).out == "0\n"
    toolkit("record", CLIENT)
    assert toolkit("check", CLIENT).status == 0


def test_a_row_from_the_future_is_listed_as_check_has_it(toolkit):
    toolkit("record", CLIENT)
    toolkit.age(CLIENT, -7200)
    assert toolkit("check", CLIENT).status == 1
    assert "in future" in toolkit("list").out
    assert "left" not in toolkit("list").out
    (entry,) = json.loads(toolkit("list", "--json").out)
    assert entry["remaining_s"] < 0
    # Within a minute it counts, and both say so.
    toolkit.age(CLIENT, 7150)
    assert toolkit("check", CLIENT).status == 0
    assert "left" in toolkit("list").out


def test_a_revoked_address_is_neither_listed_nor_counted_as_expired(toolkit):
    toolkit("record", CLIENT)
    assert toolkit("revoke", CLIENT, "203.0.113.5").out == "1\n"
    assert toolkit("list").out == ""
    assert json.loads(toolkit("list", "--json").out) == []
    assert toolkit("expire", "--dry-run").out == "0\n"
    assert toolkit("expire").out == "0\n"


def test_expire_deletes_what_is_old_and_counts_it(toolkit):
    for address in (CLIENT, "198.51.100.8"):
        toolkit("record", address)
    toolkit.age(CLIENT, 1860)
    assert toolkit("expire", "--dry-run").out == "1\n"
    assert toolkit("expire").out == "1\n"
    assert toolkit("expire").out == "0\n"
    assert len(toolkit("list").out.splitlines()) == 1


def test_grace_comes_from_the_configuration(toolkit):
    toolkit.config.write_text('grace = "90s"\n' + toolkit.config.read_text())
    toolkit("record", CLIENT)
    toolkit.age(CLIENT, 85)
    assert toolkit("check", CLIENT).status == 0
    toolkit.age(CLIENT, 10)
    assert toolkit("check", CLIENT).status == 1


def test_ignored_networks_are_not_recorded(toolkit):
    toolkit.config.write_text(
        toolkit.config.read_text() + 'networks = ["198.51.100.0/28", "2001:db8::/32"]\n'
    )
    done = toolkit("record", CLIENT)
    assert done.status == 1
    assert done.err == (
        f"popbsmtp: not recorded: {CLIENT} is in the ignored network 198.51.100.0/28\n"
    )
    assert toolkit("record", "2001:db8::7").status == 1
    assert toolkit("record", "198.51.100.16").status == 0
    assert len(toolkit("list").out.splitlines()) == 1
