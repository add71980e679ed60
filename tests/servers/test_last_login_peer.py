"""What the recorder promises and Dovecot's own plugin last_login does not.

Both write each login into the same database, the recorder for Dovecot's post-login sockets.
"""

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pymysql
import pytest

from tests.harness.directories import public_directory
from tests.harness.dovecot import Dovecot
from tests.harness.last_login import TABLE, last_login
from tests.harness.mail_clients import imap_login, pop3_login
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.servers.recorder_place import Recorder

SERVICES = ["imap", "pop3"]
# The recorder waits 4 s for a commit, then a login goes to the spool.
PATIENT = 'reply_timeout = "20s"\n[wrapper]\nwait = "20s"'
_addresses = (f"198.51.100.{number}" for number in itertools.count(1))


class Rivals:
    """One database with two tables, each written by a Dovecot of its own."""

    def __init__(self, server):
        self.server = server
        server.start()
        server.create_database("mail")
        self.recorder = Recorder(
            url=server.url("mail"), database='connect_timeout = "10s"', recorder=PATIENT
        )
        self.recorder.start()
        base = public_directory()
        printed = self.recorder.toolkit("dovecot", "--mode", "socket").stdout
        self.ours = Dovecot(base, postlogin=printed)
        self.query(TABLE)
        self.theirs = Dovecot(base, postlogin=last_login(base / "map.conf", server, "mail"))

    def query(self, statement):
        return self.server.sql(statement, "mail")

    def has(self, table, address):
        column = {"popbsmtp": "address", "pop": "ip"}[table]
        return self.query(f"SELECT 1 FROM {table} WHERE {column} = '{address}'") != []

    @contextlib.contextmanager
    def locked(self):
        """Let everybody read and nobody write."""
        if isinstance(self.server, Postgres):
            connection = psycopg2.connect(self.server.url("mail"))
            lock = "LOCK TABLE popbsmtp, pop IN EXCLUSIVE MODE"
        else:
            connection = pymysql.connect(
                host=self.server.host,
                port=self.server.port,
                user=self.server.superuser,
                password=self.server.password,
                database="mail",
                ssl_disabled=True,
            )
            lock = "LOCK TABLES popbsmtp READ, pop READ"
        with contextlib.closing(connection):
            connection.cursor().execute(lock)
            yield


@pytest.fixture(scope="module", params=[Postgres, MariaDB])
def rivals(request):
    found = Rivals(request.param(public_directory()))
    with found.ours, found.theirs:
        yield found
    found.recorder.stop()
    found.server.stop()


def login(dovecot, service, address):
    """Log in from *address* and stay."""
    if service == "imap":
        return imap_login(dovecot.imap_port, client_address=address, timeout_s=30)
    return pop3_login(dovecot.pop3_port, client_address=address, timeout_s=30)


@pytest.mark.parametrize("service", SERVICES)
def test_our_row_is_there_when_the_client_has_its_ok(rivals, service):
    for address in itertools.islice(_addresses, 20):
        with login(rivals.ours, service, address):
            assert rivals.has("popbsmtp", address)


@pytest.mark.parametrize("service", SERVICES)
def test_our_client_has_no_ok_before_the_commit_and_theirs_has(rivals, service):
    ours, theirs = itertools.islice(_addresses, 2)
    with ThreadPoolExecutor(1) as client:
        with rivals.locked():
            waiting = client.submit(login, rivals.ours, service, ours)
            with login(rivals.theirs, service, theirs):
                assert not rivals.has("pop", theirs)
            time.sleep(1)
            assert not waiting.done()
            assert not rivals.has("popbsmtp", ours)
        with waiting.result():
            assert rivals.has("popbsmtp", ours)
    wait_until(lambda: rivals.has("pop", theirs), 30, "the late row of last_login")


@pytest.mark.parametrize("service", SERVICES)
def test_our_login_survives_a_restart_of_the_database_and_theirs_does_not(rivals, service):
    ours, theirs = itertools.islice(_addresses, 2)
    rivals.server.stop()
    login(rivals.ours, service, ours).logout()
    login(rivals.theirs, service, theirs).logout()
    rivals.server.start()
    wait_until(lambda: rivals.has("popbsmtp", ours), 30, "the row from the spool")

    def theirs_writes_again():
        address = next(_addresses)
        login(rivals.theirs, service, address).logout()
        time.sleep(0.5)
        return rivals.has("pop", address)

    wait_until(theirs_writes_again, 60, "last_login after the restart")
    assert not rivals.has("pop", theirs)
