"""Real Dovecot with what `popbsmtp dovecot --for 2.3` prints, pasted as it is."""

import contextlib
import shutil
import sqlite3
import subprocess
import threading
import time

import pytest

from tests.harness.directories import public_directory
from tests.harness.dovecot import Dovecot
from tests.harness.faults import TcpProxy
from tests.harness.mail_clients import imap_login, pop3_login
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.servers.wrap_fixtures import POPBSMTP, SLACK_S, end_recorders, recording_processes

# Long enough for a recording process to start on a machine that does other things.
WAIT_S = 8
USERS = {
    "alice": "secret",
    "bob@example.com": "secret",
    # Userdb fields become environment variables.
    "mallory": (
        "secret pythonpath=/tmp/evil pythonhome=/tmp/evil popbsmtp_config=/tmp/evil"
        " path=/tmp/evil ld_library_path=/tmp/evil pghost=192.0.2.1 lc_all=xx lang=yy"
    ),
    "forger": "secret ip=203.0.113.66",
}
MASTER = """
auth_master_user_separator = *
passdb {{
  driver = passwd-file
  args = {path}/masters
  master = yes
}}
"""


class World:
    """A Dovecot, the store that its logins reach, and the way to stop that store's answers."""

    def __init__(self, url, config):
        self.config = config
        config.write_text(
            f'[database]\nurl = "{url}"\n[ignore]\nnetworks = ["192.0.2.0/24"]\n'
            f'postfix_mynetworks = false\nown_addresses = false\n[wrapper]\nwait = "{WAIT_S}s"\n'
        )
        # The password in it is for the wrapper's user as well.
        shutil.chown(config, "root", "dovecot")
        config.chmod(0o640)
        subprocess.run([POPBSMTP, "-c", config, "init"], check=True, capture_output=True)
        printed = subprocess.run(
            [POPBSMTP, "-c", config, "dovecot", "--for", "2.3"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        base = public_directory()
        (base / "masters").write_text("root1:{PLAIN}secret\n")
        self.dovecot = Dovecot(base, postlogin=printed, users=USERS, extra=MASTER.format(path=base))

    def rows(self):
        return self.query("SELECT address, username, service FROM popbsmtp ORDER BY address")

    def login(self, service, *arguments, **options):
        """Return a session that is logged in and works."""
        if service == "imap":
            session = imap_login(self.dovecot.imap_port, *arguments, **options)
            session.select_inbox()
        else:
            session = pop3_login(self.dovecot.pop3_port, *arguments, **options)
            session.stat()
        assert session.unexpected == b""
        return session


class SqliteWorld(World):
    def __init__(self):
        base = public_directory()
        # A directory that is not there yet: init makes it as on a normal machine.
        self.database = base / "store" / "popbsmtp.db"
        super().__init__(f"sqlite:///{self.database}", base / "popbsmtp.toml")

    def query(self, statement):
        with contextlib.closing(sqlite3.connect(self.database, timeout=20)) as connection:
            connection.isolation_level = None
            return connection.execute(statement).fetchall()

    @contextlib.contextmanager
    def hanging(self):
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            yield

    def close(self):
        pass


class PostgresWorld(World):
    def __init__(self):
        self.server = Postgres(public_directory())
        self.server.start()
        self.proxy = TcpProxy(self.server.host, self.server.port)
        self.server.create_database("mail")
        url = self.server.url("mail").replace(f":{self.server.port}/", f":{self.proxy.port}/")
        super().__init__(url, public_directory() / "popbsmtp.toml")

    def query(self, statement):
        return self.server.sql(statement, "mail")

    @contextlib.contextmanager
    def hanging(self):
        self.proxy.mode = "hang"
        yield
        self.proxy.mode = "pass"

    def close(self):
        self.proxy.close()
        self.server.stop()


@pytest.fixture(scope="module", params=[SqliteWorld, PostgresWorld])
def shared(request):
    with contextlib.closing(request.param()) as world, world.dovecot:
        yield world


@pytest.fixture
def world(shared):
    # It would remember what the next line deletes.
    end_recorders(shared.config)
    shared.query("DELETE FROM popbsmtp")
    yield shared
    end_recorders(shared.config)


@pytest.mark.parametrize("service", ["imap", "pop3"])
@pytest.mark.parametrize(
    ("claimed", "stored"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:DB8:0:0::7", "2001:db8::7"),
        ("::ffff:198.51.100.8", "198.51.100.8"),
    ],
)
def test_login_is_recorded_with_address_user_and_service(world, service, claimed, stored):
    world.login(service, "alice", client_address=claimed).logout()
    assert world.rows() == [(stored, "alice", service)]


@pytest.mark.parametrize("service", ["imap", "pop3"])
def test_row_is_there_when_the_client_has_its_ok(world, service):
    with world.login(service, "bob@example.com", client_address="198.51.100.7"):
        assert world.rows() == [("198.51.100.7", "bob@example.com", service)]


@pytest.mark.parametrize("service", ["imap", "pop3"])
def test_loopback_listed_networks_and_master_users_are_not_recorded(world, service):
    world.login(service, "alice").logout()
    world.login(service, "alice", host="::1").logout()
    world.login(service, "alice", client_address="192.0.2.9").logout()
    world.login(service, "alice*root1", client_address="198.51.100.7").logout()
    assert world.rows() == []


def test_hostile_userdb_fields_change_nothing(world):
    world.login("imap", "mallory", client_address="198.51.100.7").logout()
    assert world.rows() == [("198.51.100.7", "mallory", "imap")]
    assert "popbsmtp-wrap" not in world.dovecot.log_text()


def test_userdb_field_ip_is_the_administrators_own_word(world):
    """Dovecot sets IP first and the fields after it (script-login.c)."""
    world.login("imap", "forger", client_address="198.51.100.7").logout()
    assert world.rows() == [("203.0.113.66", "forger", "imap")]


def test_hanging_store_delays_by_the_wait_and_logout_ends_the_connection_at_once(world):
    with world.hanging():
        for service in ("imap", "pop3"):
            session = world.login(service, "alice", client_address="198.51.100.7")
            assert session.login_seconds < WAIT_S + SLACK_S
            left = time.monotonic()
            session.logout()
            assert time.monotonic() - left < 1
        assert recording_processes(world.config)
    wait_until(lambda: [a for a, *_ in world.rows()] == ["198.51.100.7"], 30, "the late row")
    assert "Error: popbsmtp-wrap: 198.51.100.7 not recorded: " in world.dovecot.log_text()


def test_twenty_logins_at_once_are_all_recorded(world):
    sessions = []

    def login(number):
        service = ("imap", "pop3")[number % 2]
        session = world.login(service, "alice", client_address=f"198.51.100.{number}", timeout_s=60)
        sessions.append(session)

    threads = [threading.Thread(target=login, args=(number,)) for number in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sessions) == 20
    for session in sessions:
        session.logout()
    wait_until(lambda: len(world.rows()) == 20, 40, "twenty rows")


def test_refusing_database_delays_nothing():
    with contextlib.closing(PostgresWorld()) as world, world.dovecot:
        world.server.stop()
        session = world.login("imap", "alice", client_address="198.51.100.7")
        assert session.login_seconds < SLACK_S
        session.logout()
        text = world.dovecot.log_text()
        assert "Error: popbsmtp-wrap: 198.51.100.7 not recorded: " in text
        assert "harness-secret" not in text
        world.server.start()
        wait_until(lambda: len(world.rows()) == 1, 30, "the late row")


def test_wrong_password_of_a_client_records_nothing(world):
    with pytest.raises(Exception, match="login failed"):
        imap_login(world.dovecot.imap_port, "alice", "wrong", client_address="198.51.100.7")
    assert world.rows() == []


def test_other_users_cannot_read_the_store(shared):
    if isinstance(shared, SqliteWorld):
        assert shared.database.stat().st_mode & 0o007 == 0
