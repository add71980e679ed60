"""What a real Dovecot sends to a post-login socket, and what it makes of the reply."""

import contextlib
import socket
import threading

import pytest

from popbsmtp_wrap.protocols.script_login import is_complete, parse
from tests.harness.directories import public_directory
from tests.harness.dovecot import Dovecot
from tests.harness.mail_clients import imap_login, pop3_login
from tests.harness.process import wait_until

# The auth process sends at most 8192 bytes (AUTH_MAX_INBUF_SIZE).
LONG = "x" * 7000
USERS = {
    "alice": "secret",
    "bob@example.com": f"secret myfield=a=b note={LONG}",
}
MASTER = """
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = {path}/masters
  master = yes
}}
"""


class PostLogin:
    """A post-login socket that lets everybody in."""

    def __init__(self, path):
        self.path = path
        self.received = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                with connection:
                    self._answer(connection)

    def _answer(self, connection):
        received, descriptors, _, _ = socket.recv_fds(connection, 1024, 1)
        client = socket.socket(fileno=descriptors[0])
        with client:
            while not is_complete(received):
                received += connection.recv(1024)
        self.received.append(received)
        connection.sendall(parse(received).reply)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(scope="module")
def world():
    base = public_directory()
    (base / "masters").write_text("root1:{PLAIN}secret\n")
    with contextlib.closing(PostLogin(base / "postlogin")) as postlogin:
        services = "".join(
            f"service {service} {{\n  executable = {service} {postlogin.path}\n}}\n"
            for service in ("imap", "pop3")
        )
        extra = MASTER.format(path=base)
        with Dovecot(base, postlogin=services, users=USERS, extra=extra) as dovecot:
            yield dovecot, postlogin


def request(world, service, user, **options):
    """Return what Dovecot asked at a login whose session works and ends as it should."""
    dovecot, postlogin = world
    postlogin.received.clear()
    if service == "imap":
        session = imap_login(dovecot.imap_port, user, **options)
        session.select_inbox()
    else:
        session = pop3_login(dovecot.pop3_port, user, **options)
        session.stat()
    # The client sees the end: nobody else holds its socket.
    session.logout()
    (received,) = postlogin.received
    return parse(received)


@pytest.mark.parametrize("service", ["imap", "pop3"])
def test_login_is_understood_and_its_session_works(world, service):
    found = request(world, service, "alice", client_address="198.51.100.7")
    assert (found.remote, found.user, found.master) == ("198.51.100.7", b"alice", False)
    user, *fields = found.reply.rstrip(b"\n").split(b"\t")
    assert user == b"alice"
    assert b"uid=5000" in fields
    assert any(field.startswith(b"home=") for field in fields)


@pytest.mark.parametrize("service", ["imap", "pop3"])
def test_request_of_several_reads_is_understood(world, service):
    found = request(world, service, "bob@example.com", client_address="2001:DB8:0::7")
    assert (found.remote, found.user) == ("2001:db8::7", b"bob@example.com")
    assert b"\tmyfield=a=b\t" in found.reply
    assert f"\tnote={LONG}\t".encode() in found.reply


@pytest.mark.parametrize("service", ["imap", "pop3"])
def test_administrators_login_is_told_from_the_users_own(world, service):
    found = request(world, service, "alice*root1", client_address="198.51.100.7")
    assert (found.user, found.master) == (b"alice", True)


def test_mapped_address_comes_as_the_client_claims_it(world):
    found = request(world, "imap", "alice", client_address="::ffff:198.51.100.8")
    assert found.remote == "::ffff:198.51.100.8"


def test_nothing_is_logged_as_an_error(world):
    dovecot, _ = world
    request(world, "imap", "alice")
    wait_until(lambda: "Login: user=<alice>" in dovecot.log_text(), 10, "the login's line")
    assert "Error" not in dovecot.log_text()
