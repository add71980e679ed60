"""Sessions that stay open in a real Dovecot: authorised as long as they last and a grace more."""

import contextlib
import json
import os
import pwd
import sqlite3
import time
from pathlib import Path

import pytest

from tests.harness import reaper
from tests.harness.directories import public_directory
from tests.harness.dovecot import Dovecot
from tests.harness.mail_clients import imap_login, pop3_login
from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import rows

GRACE_S = 12
TOP = f'grace = "{GRACE_S}s"'
USERS = {"alice": "secret", "bob(192.0.2.66)": "secret", "eve\timap\t1\t192.0.2.67": "secret"}
# For names that Dovecot refuses by default, for a master user, and for clients that IDLE to be put
# to sleep in a process of another service.
EXTRA = """
auth_username_chars =
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = {path}/masters
  master = yes
}}
service imap-hibernate {{
  unix_listener imap-hibernate {{
    mode = 0666
  }}
}}
service imap {{
  unix_listener imap-master {{
    user = dovecot
  }}
}}
protocol imap {{
  imap_hibernate_timeout = 1s
}}
"""


class Site:
    """A recorder that asks doveadm, and a Dovecot that hands it each login."""

    def __init__(self):
        self.recorder = Recorder(becomes="dovecot", top=TOP)
        self.recorder.start()
        self.recorder.configure(sessions="")
        printed = self.recorder.toolkit("dovecot", "--mode", "socket")
        assert "user = dovecot" in printed.stdout
        base = public_directory()
        (base / "masters").write_text("root1:{PLAIN}secret\n")
        extra = EXTRA.format(path=base)
        self.dovecot = Dovecot(base, postlogin=printed.stdout, users=USERS, extra=extra)
        self.dovecot.start()
        self.dovecot.configuration.chmod(0o644)
        self.ask()

    def ask(self, *command, renew='"1s"', **parts):
        """Have the recorder ask *command*, by default this Dovecot's doveadm."""
        words = [*command] or ["/usr/bin/doveadm", "-c", str(self.dovecot.configuration)]
        listed = ", ".join(f'"{word}"' for word in words)
        self.recorder.configure(sessions=f"renew = {renew}\ndoveadm = [{listed}]", **parts)
        assert self.recorder.hup()["event"] == "reloaded"

    def may_relay(self, address):
        return self.recorder.toolkit("check", address).returncode == 0

    def is_fresh(self, address):
        """Tell whether it may relay, without a process: tests ask this again and again."""
        return rows(self.recorder).get(address, 0) >= int(time.time()) - GRACE_S

    def wait_until_expired(self, address):
        wait_until(lambda: not self.is_fresh(address), GRACE_S + PATIENCE_S, f"{address} to expire")
        assert not self.may_relay(address)

    def wait_until_renewed(self, address):
        before = rows(self.recorder)[address]
        wait_until(lambda: rows(self.recorder)[address] > before, PATIENCE_S, f"{address} renewed")
        assert self.may_relay(address)

    def sql(self, statement):
        with contextlib.closing(
            sqlite3.connect(self.recorder.store, timeout=PATIENCE_S)
        ) as connection:
            connection.execute(statement)
            connection.commit()

    def row(self, address):
        listed = json.loads(self.recorder.toolkit("list", "--json").stdout)
        (found,) = [row for row in listed if row["address"] == address]
        return {name: found[name] for name in ("user", "service", "first_seen")}

    def doctor(self):
        """Return what doctor says of sessions."""
        words = ["doctor", "--dovecot-config", str(self.dovecot.configuration)]
        lines = self.recorder.toolkit(*words).stdout.splitlines()
        (found,) = [line for line in lines if "open sessions" in line or "doveadm" in line]
        return found

    def open(self):
        return self.recorder.status()["sessions"]["open"]

    def rounds(self):
        return self.recorder.status()["sessions"]["answers"]

    def wait_for_rounds(self, count=2):
        """Wait until doveadm was asked and rows were renewed *count* times."""
        rounds = self.rounds() + count
        wait_until(lambda: self.rounds() >= rounds, PATIENCE_S, "a round of renewals")

    def close(self):
        self.dovecot.stop()
        self.recorder.stop()


@pytest.fixture(scope="module")
def shared():
    with contextlib.closing(Site()) as site:
        yield site


@pytest.fixture
def site(shared):
    wait_until(lambda: shared.open() == 0, 2 * PATIENCE_S, "the end of the sessions before")
    assert shared.recorder.toolkit("revoke", "--all").returncode == 0
    return shared


def idle(session):
    session.select_inbox()
    session.send("idle IDLE")
    return session


def test_clients_that_stay_connected_may_send_after_grace_and_one_grace_after_their_end(site):
    imap, pop3 = site.dovecot.imap_port, site.dovecot.pop3_port
    staying = {
        "198.51.100.1": idle(imap_login(imap, client_address="198.51.100.1")),
        "2001:db8::2": idle(imap_login(imap, client_address="2001:db8::2", host="::1")),
        "198.51.100.3": idle(imap_login(imap, client_address="::ffff:198.51.100.3")),
        "198.51.100.4": pop3_login(pop3, client_address="198.51.100.4"),
        "2001:db8::5": pop3_login(pop3, client_address="2001:db8::5"),
        "198.51.100.6": idle(
            imap_login(imap, user="bob(192.0.2.66)", client_address="198.51.100.6")
        ),
        "198.51.100.7": idle(
            imap_login(imap, user="eve\timap\t1\t192.0.2.67", client_address="198.51.100.7")
        ),
    }
    imap_login(imap, client_address="198.51.100.9").logout()
    began = time.monotonic()
    assert site.may_relay("198.51.100.9")
    site.wait_until_expired("198.51.100.9")
    wait_until(lambda: time.monotonic() > began + GRACE_S + 2, PATIENCE_S, "more than grace")
    assert [address for address in staying if not site.may_relay(address)] == []
    assert site.open() == len(staying)
    # Those that IDLE are in the care of another process of Dovecot by now.
    names = [Path(f"/proc/{p.pid}/comm").read_text() for p in reaper.tree(site.dovecot.root)]
    assert "imap-hibernate\n" in names
    for session in staying.values():
        session.close()
    wait_until(lambda: site.open() == 0, PATIENCE_S, "the end of the sessions")
    last = rows(site.recorder)
    for address in staying:
        site.wait_until_expired(address)
    assert rows(site.recorder) == last
    assert set(last) == {*staying, "198.51.100.9"}


def test_who_and_by_what_service_stays_as_it_was_at_login(site):
    with pop3_login(site.dovecot.pop3_port, client_address="198.51.100.1"):
        before = site.row("198.51.100.1")
        site.wait_until_renewed("198.51.100.1")
        assert site.row("198.51.100.1") == before


def test_revoke_ends_the_renewals_of_a_session_that_goes_on(site):
    with (
        imap_login(site.dovecot.imap_port, client_address="198.51.100.1") as revoked,
        imap_login(site.dovecot.imap_port, client_address="198.51.100.2"),
    ):
        assert site.recorder.toolkit("revoke", "198.51.100.1").stdout == "1\n"
        site.wait_for_rounds()
        assert not site.may_relay("198.51.100.1")
        # Not even by a recorder that has forgotten everything.
        site.recorder.kill()
        site.recorder.start()
        site.wait_for_rounds()
        assert revoked.command("NOOP").startswith("OK")
        assert not site.may_relay("198.51.100.1")
        assert site.may_relay("198.51.100.2")
        imap_login(site.dovecot.imap_port, client_address="198.51.100.1").logout()
        assert site.may_relay("198.51.100.1")


def test_who_was_not_recorded_at_login_is_not_renewed(site):
    """An administrator who looks into a mailbox is no user who reads his mail."""
    imap = site.dovecot.imap_port
    with (
        imap_login(imap, client_address="198.51.100.1"),
        imap_login(imap, user="alice*root1", client_address="198.51.100.2"),
    ):
        site.wait_for_rounds()
        assert site.open() == 2
        assert set(site.recorder.rows()) == {"198.51.100.1"}


def test_a_network_that_is_ignored_since_is_not_renewed(site):
    imap = site.dovecot.imap_port
    with (
        imap_login(imap, client_address="198.51.100.1"),
        imap_login(imap, client_address="203.0.113.1"),
    ):
        site.ask(ignore='networks = ["203.0.113.0/24"]')
        before = rows(site.recorder)["203.0.113.1"]
        site.wait_until_renewed("198.51.100.1")
        site.wait_until_renewed("198.51.100.1")
        assert rows(site.recorder)["203.0.113.1"] == before
        site.ask(ignore="")
        # On a busy machine its row has expired meanwhile.
        with imap_login(imap, client_address="203.0.113.1"):
            site.wait_until_renewed("203.0.113.1")


def test_an_address_that_expired_while_nobody_asked_is_renewed_when_it_is_asked_again(site):
    site.ask(renew="0")
    with imap_login(site.dovecot.imap_port, client_address="198.51.100.1"):
        site.wait_until_expired("198.51.100.1")
        assert site.open() is None
        site.ask()
        site.wait_until_renewed("198.51.100.1")


def test_a_dovecot_that_restarts_is_no_trouble(site):
    before = len(site.recorder.events("sessions_not_renewed"))
    session = imap_login(site.dovecot.imap_port, client_address="198.51.100.1")
    wait_until(lambda: site.open() == 1, PATIENCE_S, "the session")
    site.dovecot.stop()
    session.close()
    wait_until(lambda: site.open() == 0, PATIENCE_S, "the end of all sessions")
    site.wait_for_rounds()
    site.dovecot.start()
    site.dovecot.configuration.chmod(0o644)
    with imap_login(site.dovecot.imap_port, client_address="198.51.100.1"):
        site.wait_until_renewed("198.51.100.1")
    assert site.recorder.status()["sessions"]["error"] is None
    # One that was asking just when Dovecot stopped.
    assert len(site.recorder.events("sessions_not_renewed")) <= before + 1


def test_a_user_whom_dovecot_does_not_let_in_is_told_what_to_do(site):
    anvil = site.dovecot.base_dir / "anvil"
    os.chown(anvil, 0, 0)
    try:
        wait_until(lambda: site.recorder.status()["sessions"]["error"], PATIENCE_S, "the trouble")
        error = site.recorder.status()["sessions"]["error"]
        assert "Permission denied; let it in as popbsmtp dovecot prints" in error
        assert "stats-writer" not in error
        assert site.doctor().startswith("warn  doveadm who as dovecot: Fatal: net_connect_unix(")
        assert site.doctor().endswith(
            "Permission denied; clients that stay connected may not send after grace;"
            " add the service anvil that popbsmtp dovecot prints, and restart Dovecot"
        )
    finally:
        os.chown(anvil, pwd.getpwnam("dovecot").pw_uid, -1)
    wait_until(lambda: not site.recorder.status()["sessions"]["error"], PATIENCE_S, "its end")
    said = "ok    dovecot may ask Dovecot for open sessions; addresses now: 0"
    assert site.doctor() == said


def test_renew_names_the_row_that_the_database_refuses(site):
    with imap_login(site.dovecot.imap_port, client_address="198.51.100.1"):
        site.ask(renew="0")
        site.sql(
            "CREATE TRIGGER t BEFORE UPDATE ON popbsmtp BEGIN SELECT RAISE(ABORT, 'sober'); END"
        )
        try:
            done = site.recorder.toolkit("renew")
        finally:
            site.sql("DROP TRIGGER t")
    assert (done.returncode, done.stdout) == (77, "")
    assert "sober" in done.stderr
    assert "198.51.100.1 is not renewed (1 such rows), 0 others are" in done.stderr
    site.ask()


def test_renew_renews_once_where_there_is_no_recorder(site):
    with imap_login(site.dovecot.imap_port, client_address="198.51.100.1"):
        site.ask(renew="0")
        before = rows(site.recorder)["198.51.100.1"]
        # Times are whole seconds, and a row that is too old is not renewed: wait only a little.
        time.sleep(3.1)
        assert site.recorder.toolkit("renew").stdout == "1\n"
        assert rows(site.recorder)["198.51.100.1"] > before
        site.recorder.toolkit("revoke", "--all")
        assert site.recorder.toolkit("renew").stdout == "0\n"
        assert not site.may_relay("198.51.100.1")
    site.ask()
