"""Real Dovecot with the recorder: what `popbsmtp dovecot` prints for it, pasted as it is."""

import contextlib
import os
import socket
import threading
import time

import pytest
from relay_world import shared_world

from tests.harness.directories import public_directory
from tests.harness.dovecot import Dovecot
from tests.harness.mail_clients import ImapSession, imap_login, pop3_login
from tests.harness.process import wait_until
from tests.harness.smtp_client import smtp_rcpt
from tests.servers.recorder_place import Recorder
from tests.servers.wrap_fixtures import launcher, recording_processes

USERS = {
    "alice": "secret",
    "bob@example.com": "secret myfield=a=b quota_rule=*:bytes=1M",
    "guest": "secret",
}
MASTER = """
auth_mechanisms = plain anonymous
auth_anonymous_username = guest
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = {path}/masters
  master = yes
}}
"""
SERVICES = ["imap", "pop3"]


class Site:
    """A recorder, and a Dovecot that hands it each login."""

    def __init__(self, mode):
        self.mode = mode
        # The wrapper runs as Dovecot's user and needs the configuration for its fallback.
        self.recorder = Recorder(becomes="dovecot", recorder='socket_mode = "0600"')
        self.recorder.start()
        words = ["--wrapper", launcher()] if mode == "wrapper" else []
        printed = self.recorder.toolkit("dovecot", "--mode", mode, *words)
        assert printed.returncode == 0, printed.stderr
        base = public_directory()
        (base / "masters").write_text("root1:{PLAIN}secret\n")
        extra = MASTER.format(path=base)
        self.dovecot = Dovecot(base, postlogin=printed.stdout, users=USERS, extra=extra)

    def login(self, service, user="alice", address="", **options):
        """Return a session that is logged in and works."""
        options |= {"client_address": address} if address else {}
        if service == "imap":
            session = imap_login(self.dovecot.imap_port, user, **options)
            session.select_inbox()
        else:
            session = pop3_login(self.dovecot.pop3_port, user, **options)
            session.stat()
        assert session.unexpected == b""
        return session

    def close(self):
        self.recorder.stop()


@pytest.fixture(scope="module", params=["socket", "wrapper"])
def shared(request):
    with contextlib.closing(Site(request.param)) as site, site.dovecot:
        yield site


@pytest.fixture
def site(shared):
    assert shared.recorder.toolkit("revoke", "--all").returncode == 0
    return shared


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    ("claimed", "stored"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("::ffff:198.51.100.8", "198.51.100.8"),
    ],
)
def test_the_row_is_there_when_the_client_has_its_ok(site, service, claimed, stored):
    with site.login(service, "bob@example.com", claimed):
        assert site.recorder.rows() == {stored: "bob@example.com"}
    listed = site.recorder.toolkit("list").stdout
    assert f"  {service} bob@example.com" in listed


@pytest.mark.parametrize("service", SERVICES)
def test_loopback_and_master_users_are_not_recorded(site, service):
    site.login(service).logout()
    site.login(service, host="::1").logout()
    site.login(service, "alice*root1", "198.51.100.7").logout()
    assert site.recorder.rows() == {}


def anonymous_login(dovecot, service, address):
    """Return the last reply to SASL's ANONYMOUS (RFC 4505) and to a look at the mailbox."""
    port = dovecot.imap_port if service == "imap" else dovecot.pop3_port
    with socket.create_connection(("127.0.0.1", port), 30) as peer:
        lines = peer.makefile("rwb")
        lines.readline()
        if service == "imap":
            claim = f'("x-originating-ip" "{address}" "x-connected-ip" "127.0.0.1")'
            commands = [f"ID {claim}", "AUTHENTICATE ANONYMOUS Z3Vlc3Q=", "SELECT INBOX"]
        else:
            claim = f"ADDR={address} PORT=40000"
            commands = [f"XCLIENT {claim}", "AUTH ANONYMOUS Z3Vlc3Q=", "STAT"]
        replies = []
        for command in commands:
            tag = "a " if service == "imap" else ""
            lines.write(f"{tag}{command}\r\n".encode())
            lines.flush()
            while (reply := lines.readline()).startswith(b"*"):
                pass
            replies.append(reply.decode())
        return replies


@pytest.mark.parametrize("service", SERVICES)
def test_anonymous_login_opens_its_mailbox_and_no_relay(site, service):
    said = len(site.dovecot.log_text())
    _, login, look = anonymous_login(site.dovecot, service, "198.51.100.7")
    success = "a OK" if service == "imap" else "+OK"
    assert login.startswith(success)
    assert look.startswith(success)
    assert site.recorder.rows() == {}
    why = "anonymous login proves nothing"
    if site.mode == "wrapper":
        wait_until(lambda: why in site.dovecot.log_text()[said:], 10, "the wrapper's line")
    else:
        assert why in site.recorder.events("not_recorded")[-1]["error"]
        assert site.recorder.status()["outcomes"]["anonymous"] > 0


@pytest.mark.parametrize("service", SERVICES)
def test_password_of_the_anonymous_user_counts_for_the_wrapper_alone(site, service):
    """Dovecot marks this login too, in a field that script-login does not pass to the wrapper."""
    site.login(service, "guest", "198.51.100.7").logout()
    recorded = {"198.51.100.7": "guest"} if site.mode == "wrapper" else {}
    assert site.recorder.rows() == recorded


def test_client_with_the_servers_own_address_is_not_recorded(site):
    """As behind a proxy in the same container, or webmail that connects to the public address."""
    for address, own in (("198.51.100.7", "198.51.100.7"), ("2001:DB8::7", "2001:db8:0::7")):
        session = ImapSession("127.0.0.1", site.dovecot.imap_port, 30)
        answer = session.command(f'ID ("x-originating-ip" "{address}" "x-connected-ip" "{own}")')
        assert answer.startswith("OK")
        session.login("alice", "secret")
        session.select_inbox()
        session.logout()
    assert site.recorder.rows() == {}


def test_no_process_records_beside_the_recorder(site):
    before = site.recorder.status()["outcomes"]["committed"]
    for number in range(1, 11):
        site.login("imap", address=f"198.51.100.{number}").logout()
    assert recording_processes(site.recorder.config) == []
    assert site.recorder.status()["outcomes"]["committed"] == before + 10


def test_forty_logins_at_once_are_all_in_the_table_when_they_are_in(site):
    missing = []

    def login(number):
        address = f"198.51.100.{number}"
        with site.login(SERVICES[number % 2], address=address, timeout_s=60):
            if address not in site.recorder.rows():
                missing.append(address)

    threads = [threading.Thread(target=login, args=(number,)) for number in range(1, 41)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    assert len(site.recorder.rows()) == 40


def test_a_phone_that_logs_in_all_the_time_is_written_once(site):
    before = site.recorder.status()
    for _ in range(5):
        site.login("imap", address="198.51.100.7").logout()
    after = site.recorder.status()
    assert after["batches"] == before["batches"] + 1
    remembered = [found["outcomes"].get("remembered", 0) for found in (before, after)]
    assert remembered[1] == remembered[0] + 4


def test_a_client_that_ends_its_session_gets_the_end_of_its_connection(site):
    """Its socket came along with the request, and nobody but the mail program may keep it."""
    session = site.login("pop3", address="198.51.100.7")
    session.logout()
    pid = site.recorder.pid
    assert site.recorder.status()["connections"] == 1  # that of status itself
    wait_until(lambda: "TCP" not in str(descriptors(pid)), 5, "descriptors without a client")


def descriptors(pid):
    with open(f"/proc/{pid}/net/unix", encoding="ascii") as file:
        unix = {line.split()[6] for line in file.readlines()[1:]}
    found = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    sockets = [name[8:-1] for name in found if name.startswith("socket:[")]
    return ["TCP" for inode in sockets if inode not in unix]


def test_a_recorder_that_restarts_within_a_second_costs_no_login(site):
    """Dovecot tries for a second to connect; a machine that is busy may take longer to restart."""
    said = len(site.dovecot.log_text())
    away_s, failed = restart_under_load(site)
    if away_s < 0.9 or site.mode == "wrapper":
        assert failed == []
    # What failed were logins that nobody listened to for a second, one after the other. A request
    # that was taken and not answered would be a denied access.
    assert len(failed) <= len(SERVICES) * (1 + away_s)
    assert "denied access" not in site.dovecot.log_text()[said:]


def restart_under_load(site):
    """Return how long nobody listened, and why mailboxes stayed closed."""
    ended = threading.Event()
    failed = []
    opened = []

    def log_in(service):
        number = 0
        while not ended.is_set():
            number += 1
            try:
                site.login(service, address=f"203.0.113.{number % 250 + 1}").logout()
            except Exception as error:  # noqa: BLE001 - whatever keeps a mailbox closed
                failed.append(repr(error))
            else:
                opened.append(number)
            time.sleep(0.01)

    threads = [threading.Thread(target=log_in, args=(service,)) for service in SERVICES]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(opened) > 5, 60, "mailboxes")
        stopped_at = time.monotonic()
        site.recorder.stop()
        site.recorder.start()
        away_s = time.monotonic() - stopped_at
        before = len(opened)
        wait_until(lambda: len(opened) > before + 5, 60, "mailboxes after the restart")
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return away_s, failed


@pytest.mark.parametrize("kind", ["pgsql", "mysql", "sqlite"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_login_through_the_recorder_opens_the_relay(kind, service):
    world = shared_world(kind)
    relay = world.shared_relay(next(iter(world.ways)), False)
    world.clear()
    with Recorder(url=world.url()) as recorder:
        printed = recorder.toolkit("dovecot", "--mode", "socket").stdout
        with Dovecot(public_directory(), postlogin=printed) as dovecot:
            assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 554
            if service == "imap":
                session = imap_login(dovecot.imap_port, client_address="198.51.100.7")
            else:
                session = pop3_login(dovecot.pop3_port, client_address="198.51.100.7")
            assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 250
            session.logout()
            assert smtp_rcpt(relay.port, "198.51.100.8")[0] == 554
            assert recorder.toolkit("revoke", "198.51.100.7").stdout == "1\n"
            assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 554
            # Within recorder.refresh, but not remembered any more.
            imap_login(dovecot.imap_port, client_address="198.51.100.7").logout()
            assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 250
