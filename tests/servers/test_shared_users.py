"""Addresses from which many users log in: reported, and recorded unless that is refused."""

import json

import pytest

from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import Watch, append, dovecot

NAT, OTHER = "198.51.100.7", "2001:db8::7"
REFUSE = "shared_users = 3\nrefuse_shared = true"
CAUSES = "NAT, webmail, a proxy without PROXY protocol or the gateway of a container"


@pytest.fixture
def recorder():
    with Recorder(recorder="shared_users = 3") as made:
        yield made


@pytest.fixture
def refusing():
    with Recorder(recorder=REFUSE) as made:
        yield made


def log_in(recorder, users, address=NAT):
    """Log in as each of *users*, by the wrapper's line and by Dovecot's request in turn."""
    for number, user in enumerate(users):
        if number % 2:
            assert recorder.dovecot_login(address, user) == f"{user}\thome=/home/alice\n".encode()
        else:
            assert recorder.login(address, user) == ("OK", "")


def reports(recorder):
    """Return address, users and recorded of each report."""
    found = recorder.events("shared_address")
    return [(event["address"], event["users"], event["recorded"]) for event in found]


def finding(recorder):
    """Return the lines of `popbsmtp doctor` about users of one address."""
    lines = recorder.toolkit("doctor").stdout.splitlines()
    return [line for line in lines if "users of one address" in line]


def test_address_of_many_users_is_reported_once_and_recorded(recorder):
    log_in(recorder, ["ann", "bob", "cleo", "ann"])
    assert reports(recorder) == []
    assert recorder.status()["shared"] == {"count": 0, "addresses": []}
    assert finding(recorder) == []
    log_in(recorder, ["dora", "eve", "ann"])
    assert reports(recorder) == [(NAT, "4", "yes")]
    assert recorder.status()["shared"] == {"count": 1, "addresses": [NAT]}
    assert recorder.rows().keys() == {NAT}
    assert "shared" not in recorder.status()["outcomes"]
    (line,) = finding(recorder)
    assert line == (
        f"warn  more than 3 users of one address logged in within grace: {NAT}; everybody behind it"
        f" may relay; if that is {CAUSES}:"
        " put it into [ignore] networks, or set refuse_shared of [recorder]"
    )


def test_default_is_twenty_users():
    with Recorder() as recorder:
        log_in(recorder, [f"user{number}" for number in range(20)])
        assert reports(recorder) == []
        log_in(recorder, ["user20"])
        assert reports(recorder) == [(NAT, "21", "yes")]


def test_one_user_of_many_logins_and_logins_without_a_user_are_no_shared_address(recorder):
    log_in(recorder, ["ann"] * 10)
    for _ in range(10):
        assert recorder.login(NAT, "") == ("OK", "")
    assert reports(recorder) == []


def test_ignored_addresses_and_master_users_are_not_counted():
    with Recorder(recorder="shared_users = 3", ignore=f'networks = ["{NAT}"]') as recorder:
        log_in(recorder, ["ann", "bob", "cleo", "dora"])
        assert reports(recorder) == []
        assert recorder.status()["shared"]["count"] == 0


def test_refused_address_gets_no_row_and_every_mailbox_opens(refusing):
    log_in(refusing, ["ann", "bob", "cleo"])
    assert refusing.rows().keys() == {NAT}
    assert refusing.toolkit("revoke", NAT).returncode == 0
    log_in(refusing, ["dora", "ann", "bob", "eve"])
    log_in(refusing, ["dora"], OTHER)
    assert refusing.rows().keys() == {OTHER}
    assert refusing.status()["outcomes"]["shared"] == 4
    assert reports(refusing) == [(NAT, "4", "no")]
    (line,) = finding(refusing)
    assert f"grace: {NAT}; logins from there are not recorded; if that is {CAUSES}: let" in line


def test_row_from_before_stays_and_open_sessions_do_not_renew_it(refusing):
    log_in(refusing, ["ann", "bob", "cleo", "dora"])
    log_in(refusing, ["ann"], OTHER)
    assert refusing.rows().keys() == {NAT, OTHER}
    with refusing.connect() as peer:
        peer.sendall(f"popbsmtp-control/1\trenew\t{NAT}\t{OTHER}\n".encode())
        assert peer.recv(100) == b"OK\t1\n"
    assert refusing.status()["outcomes"]["shared"] == 2
    assert refusing.status()["outcomes"]["renewed"] == 1


def test_address_is_recorded_again_once_grace_is_over():
    with Recorder(top="grace = 6", recorder=REFUSE) as recorder:
        log_in(recorder, ["ann", "bob", "cleo", "dora"])
        assert recorder.status()["outcomes"]["shared"] == 1
        assert recorder.toolkit("revoke", NAT).returncode == 0

        def is_recorded():
            recorder.login(NAT, "ann")
            return NAT in recorder.rows()

        wait_until(is_recorded, PATIENCE_S, "the end of grace")


def test_logins_that_the_watcher_reads_count_as_well(refusing):
    with Watch(refusing) as watch:
        for number, user in enumerate(["ann", "bob", "cleo", "dora"], 1):
            append(watch.log, dovecot(NAT, user))
            wait_until(
                lambda number=number: refusing.status()["logins"].get("wrapper") == number,
                PATIENCE_S,
                "the login",
            )
    assert refusing.status()["outcomes"]["shared"] == 1
    assert reports(refusing) == [(NAT, "4", "no")]


def test_reload_takes_another_limit_and_refusal(recorder):
    log_in(recorder, ["ann", "bob", "cleo", "dora"])
    recorder.configure(recorder="shared_users = 4")
    recorder.hup()
    assert recorder.status()["shared"]["count"] == 0
    log_in(recorder, ["eve", "finn"])
    assert recorder.status()["shared"]["count"] == 1
    recorder.configure(recorder="shared_users = 2\nrefuse_shared = true")
    recorder.hup()
    log_in(recorder, ["ann", "bob"], OTHER)
    before = recorder.status()["outcomes"].get("shared", 0)
    log_in(recorder, ["cleo"], OTHER)
    assert recorder.status()["outcomes"]["shared"] == before + 1
    assert recorder.events("restart_needed") == []


def test_status_counts_all_and_lists_ten(recorder):
    for number in range(12):
        log_in(recorder, ["ann", "bob", "cleo", "dora"], f"203.0.113.{number}")
    found = json.loads(recorder.toolkit("status", "--json").stdout)["shared"]
    assert found["count"] == 12
    assert len(found["addresses"]) == 10
    assert set(found["addresses"]) < {f"203.0.113.{number}" for number in range(12)}
    lines = recorder.toolkit("status").stdout.splitlines()
    assert "shared.count              12" in lines
    assert f"shared.addresses          {' '.join(found['addresses'])}" in lines
    (line,) = finding(recorder)
    assert " and 2 more; everybody" in line
