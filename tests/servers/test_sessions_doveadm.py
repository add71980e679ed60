"""A doveadm that does what it should not: it costs nothing else, and is reported once."""

import asyncio
import json
import os
import time

import pytest

from popbsmtp_wrap.dovecot.doveadm import ask as ask_doveadm
from popbsmtp_wrap.errors import ServiceUnavailableError
from tests.harness.directories import public_directory, write
from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import rows

GOOD = json.dumps([{"username": "alice", "service": "imap", "pid": "1", "ip": "198.51.100.1"}])
# What each does, and what is said of it.
TROUBLES = {
    "it hangs": ("sleep 600", "it does not end within"),
    "it ignores SIGTERM": ("trap '' TERM; while :; do sleep 1; done", "it does not end within"),
    "its child hangs": (f"sleep 600 & echo '{GOOD}'", "it does not end within"),
    "it closes its output and hangs": (
        f"echo '{GOOD}'; exec >&- 2>&-; sleep 600",
        "it does not end within",
    ),
    "it fails": ("echo Fatal: no >&2; exit 75", "it ends with 75: Fatal: no"),
    "it fails after an answer": (f"echo '{GOOD}'; exit 1", "it ends with 1: no message"),
    "it is killed": (f"echo '{GOOD}'; kill -SEGV $$", "it ends with -11: no message"),
    "it floods": ("exec yes", "it prints more than 16384 kB"),
    "it complains without end": ("exec yes >&2", "it prints more than 64 kB"),
    "it prints garbage": ("head -c 100000 /dev/urandom", "not what doveadm who prints"),
    "it prints nothing": ("exit 0", "not what doveadm who prints: ''"),
    "it is cut": (f"printf %s '{GOOD[:-1]}'", "not what doveadm who prints: ''"),
}


class Fake:
    """A program of ours in doveadm's place; it counts how often it was started."""

    def __init__(self):
        self.folder = public_directory()
        self.folder.chmod(0o777)
        self.path = self.folder / "doveadm"
        self.calls = self.folder / "calls"
        self.does("echo '[]'")

    def does(self, script):
        new = self.folder / "new"
        write(new, f"#!/bin/sh\necho $$ >> {self.calls}\n{script}\n", mode=0o755)
        new.rename(self.path)

    def pids(self):
        return self.calls.read_text().split() if self.calls.exists() else []

    def wait_for_calls(self, more):
        count = len(self.pids()) + more
        wait_until(lambda: len(self.pids()) >= count, 2 * PATIENCE_S, "calls of doveadm")


@pytest.fixture
def doveadm():
    return Fake()


def ask(doveadm, longest_s=60.0):
    return asyncio.run(ask_doveadm([str(doveadm.path)], longest_s))


def group_of(pid):
    """Return the processes of the group *pid*."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                state, _, group = file.read().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if group == pid and state != "Z":
            found.append(name)
    return found


@pytest.mark.parametrize("name", TROUBLES)
def test_trouble_is_said_and_nothing_of_it_is_left(doveadm, name):
    script, says = TROUBLES[name]
    doveadm.does(script)
    longest_s = 1.0 if "not end" in says else 60.0
    with pytest.raises(ServiceUnavailableError) as trouble:
        ask(doveadm, longest_s)
    assert str(trouble.value).startswith(f"{doveadm.path} who: {says}")
    (pid,) = doveadm.pids()
    wait_until(lambda: group_of(pid) == [], PATIENCE_S, "the end of its processes")


def test_an_answer_is_understood_although_it_complains(doveadm):
    doveadm.does(f"echo 'Error: net_connect_unix(stats-writer) failed' >&2; echo '{GOOD}'")
    assert ask(doveadm) == {"198.51.100.1"}


@pytest.mark.parametrize("why", ["No such file or directory", "Connection refused"])
def test_nobody_has_a_session_where_dovecot_does_not_run(doveadm, why):
    said = f"Fatal: net_connect_unix(/run/dovecot/anvil) failed: {why}"
    doveadm.does(f"echo 'Error: x' >&2; echo '{said}' >&2; exit 75")
    assert ask(doveadm) == set()


def test_it_knows_nothing_of_us(doveadm):
    doveadm.does("env > $0.env; pwd > $0.pwd; ls -l /proc/self/fd > $0.fd; echo '[]'")
    os.environ["POPBSMTP_SECRET"] = "x"
    try:
        assert ask(doveadm) == set()
    finally:
        del os.environ["POPBSMTP_SECRET"]
    environment = (doveadm.folder / "doveadm.env").read_text()
    assert "POPBSMTP_SECRET" not in environment
    assert "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n" in environment
    assert (doveadm.folder / "doveadm.pwd").read_text() == "/\n"
    # Standard input, its answer, its complaints; ls has its directory open.
    assert (doveadm.folder / "doveadm.fd").read_text().count(" -> ") <= 5


def test_a_program_that_is_not_there_is_said(doveadm):
    doveadm.path.unlink()
    with pytest.raises(ServiceUnavailableError, match=r"doveadm who: No such file or directory; "):
        ask(doveadm)


def test_a_program_that_is_none_is_said(doveadm):
    write(doveadm.path, "", mode=0o644)
    with pytest.raises(ServiceUnavailableError, match=r"doveadm who: Permission denied; "):
        ask(doveadm)


def test_a_hundred_thousand_sessions_are_understood(doveadm):
    sessions = [
        {"username": "a", "service": "imap", "pid": "1", "ip": f"198.51.{n >> 8 & 255}.{n & 255}"}
        for n in range(100_000)
    ]
    listed = doveadm.folder / "listed"
    listed.write_text(json.dumps(sessions))
    doveadm.does(f"cat {listed}")
    assert len(ask(doveadm)) == 65536


@pytest.fixture(scope="module")
def recorder():
    with Recorder(top='grace = "60s"') as made:
        yield made


@pytest.mark.parametrize("name", ["it hangs", "it fails", "it floods", "it prints garbage"])
def test_logins_go_on_whatever_doveadm_does(recorder, doveadm, name):
    script, _ = TROUBLES[name]
    doveadm.does(script)
    before = len(recorder.events("sessions_not_renewed"))
    recorder.configure(sessions=f'renew = "1s"\ndoveadm = "{doveadm.path}"')
    assert recorder.hup()["event"] == "reloaded"
    doveadm.wait_for_calls(1)
    assert recorder.login("198.51.100.7") == ("OK", "")
    assert recorder.dovecot_login("198.51.100.8").endswith(b"\n")
    wait_until(lambda: recorder.status()["sessions"]["error"], PATIENCE_S, "the trouble")
    doveadm.wait_for_calls(2)
    assert len(recorder.events("sessions_not_renewed")) == before + 1
    assert recorder.login("198.51.100.1") == ("OK", "")
    last = rows(recorder)["198.51.100.1"]
    doveadm.does(f"echo '{GOOD}'")
    wait_until(lambda: rows(recorder)["198.51.100.1"] > last, 2 * PATIENCE_S, "a renewal")
    wait_until(lambda: not recorder.status()["sessions"]["error"], PATIENCE_S, "its end")


def test_a_doveadm_that_hangs_does_not_hold_up_the_end(recorder, doveadm):
    doveadm.does("trap '' TERM; while :; do sleep 1; done")
    recorder.configure(sessions=f'renew = "1s"\ndoveadm = "{doveadm.path}"')
    assert recorder.hup()["event"] == "reloaded"
    doveadm.wait_for_calls(1)
    recorder.stop()
    assert recorder.exit_status == 0
    assert group_of(doveadm.pids()[-1]) == []
    recorder.start()


def test_a_reload_switches_it_off(recorder, doveadm):
    recorder.configure(sessions=f'renew = "1s"\ndoveadm = "{doveadm.path}"')
    recorder.hup()
    doveadm.wait_for_calls(2)
    recorder.configure(sessions='renew = "off"')
    recorder.hup()
    wait_until(lambda: recorder.status()["sessions"]["open"] is None, PATIENCE_S, "the end")
    calls = doveadm.pids()
    time.sleep(2)
    assert doveadm.pids() == calls


def test_a_thousand_addresses_are_renewed_and_those_without_a_row_are_not(recorder, doveadm):
    assert recorder.toolkit("revoke", "--all").returncode == 0
    addresses = [f"203.0.113.{n}" for n in range(1, 251)] + [f"2001:db8::{n:x}" for n in range(750)]
    sessions = [{"username": "a", "service": "imap", "pid": "1", "ip": a} for a in addresses]
    listed = doveadm.folder / "listed"
    listed.write_text(json.dumps(sessions))
    doveadm.does(f"cat {listed}")
    known = addresses[::100]
    for address in known:
        recorder.login(address)
    last = rows(recorder)
    before = recorder.status()
    recorder.configure(sessions=f'renew = "1s"\ndoveadm = "{doveadm.path}"')
    recorder.hup()
    renewed = lambda: all(rows(recorder)[address] > last[address] for address in known)  # noqa: E731
    wait_until(renewed, PATIENCE_S, "the renewals")
    recorder.configure(sessions="renew = 0")
    recorder.hup()
    assert set(rows(recorder)) == set(known)
    after = recorder.status()
    counts = [
        found["outcomes"].get(name, 0)
        for found in (before, after)
        for name in ("renewed", "no row")
    ]
    rounds = (counts[2] - counts[0]) // 10
    assert rounds >= 1
    assert counts[2] - counts[0] == 10 * rounds
    assert counts[3] - counts[1] == 990 * rounds
    assert after["logins"]["sessions"] - before["logins"].get("sessions", 0) == 1000 * rounds
