"""Logins that the table refuses, or whose rows are locked: each costs itself and nobody else."""

import contextlib
import itertools
import threading

import psycopg2
import pymysql
import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.spool.append import put
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.harness.directories import public_directory
from tests.harness.mariadb import MariaDB
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder

LONG = "2001:db8:1111:2222:3333:4444:5555:6666"
SHORT = [f"192.0.2.{number}" for number in range(1, 5)]
NARROW = {
    "postgresql": "ALTER TABLE popbsmtp ALTER address TYPE varchar(20)",
    "mysql": "ALTER TABLE popbsmtp MODIFY address varchar(20) CHARACTER SET ascii NOT NULL",
}
NO_GUESTS = {
    "postgresql": "ALTER TABLE popbsmtp ADD CHECK (username <> 'guest')",
    "mysql": "ALTER TABLE popbsmtp ADD CHECK (username <> 'guest')",
}
SIGNALS = {
    "postgresql": """CREATE FUNCTION no_guests() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.username = 'guest' THEN RAISE EXCEPTION 'no guests'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER no_guests BEFORE INSERT OR UPDATE ON popbsmtp
        FOR EACH ROW EXECUTE FUNCTION no_guests()""",
    "mysql": "CREATE TRIGGER no_guests BEFORE INSERT ON popbsmtp FOR EACH ROW"
    " IF NEW.username = 'guest' THEN SIGNAL SQLSTATE '45000'"
    " SET MESSAGE_TEXT = 'no guests'; END IF",
}
# Nobody's address (store/canaries.py) is refused as well, by codes that nobody has reserved.
OURS_ALONE = {
    "postgresql": """CREATE FUNCTION ours() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.address NOT LIKE '10.%' THEN
                RAISE EXCEPTION 'not ours' USING ERRCODE = 'U0815';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER ours BEFORE INSERT ON popbsmtp FOR EACH ROW EXECUTE FUNCTION ours()""",
    "mysql": "CREATE TRIGGER ours BEFORE INSERT ON popbsmtp FOR EACH ROW"
    " IF NEW.address NOT LIKE '10.%' THEN SIGNAL SQLSTATE '45000'"
    " SET MYSQL_ERRNO = 30815, MESSAGE_TEXT = 'not ours'; END IF",
}


_numbers = itertools.count(1)


class Site:
    """A database, a recorder of its own, and an administrator's session."""

    def __init__(self, server):
        self.server = server
        self.kind = "postgresql" if isinstance(server, Postgres) else "mysql"
        self.name = f"mail{next(_numbers)}"
        server.create_database(self.name)
        self.recorder = Recorder(url=server.url(self.name))

    def session(self):
        server = self.server
        if self.kind == "postgresql":
            return psycopg2.connect(
                host=server.host,
                port=server.port,
                dbname=self.name,
                user=server.superuser,
                password=server.password,
            )
        return pymysql.connect(
            host=server.host,
            port=server.port,
            database=self.name,
            user=server.superuser,
            password=server.password,
        )

    def sql(self, statement):
        with contextlib.closing(self.session()) as session:
            with session.cursor() as cursor:
                cursor.execute(statement)
            session.commit()


@pytest.fixture(scope="module", params=[Postgres, MariaDB], ids=["postgresql", "mariadb"])
def server(request):
    with request.param(public_directory()) as running:
        yield running


@pytest.fixture
def site(server):
    made = Site(server)
    with made.recorder:
        yield made


@pytest.mark.parametrize(
    "obstacle", [NARROW, NO_GUESTS, SIGNALS], ids=["narrow", "check", "signal"]
)
def test_a_login_that_the_table_refuses_costs_nobody_else_anything(site, obstacle):
    site.sql(obstacle[site.kind])
    refused = LONG if obstacle is NARROW else "198.51.100.7"
    word, reason = site.recorder.login(refused, "guest")
    assert word == "NO"
    assert reason
    for address in SHORT:
        assert site.recorder.login(address) == ("OK", "")
    status = site.recorder.status()
    assert status["database"]["state"] == "up"
    assert status["spool"]["logins"] == 0
    assert status["outcomes"] == {"not taken": 1, "committed": len(SHORT)}
    assert set(site.recorder.rows()) == set(SHORT)
    [event] = site.recorder.events("login_not_taken")
    assert event["address"] == refused
    assert not site.recorder.events("database_down")


def test_a_login_that_is_refused_like_nobodys_address_costs_nobody_else_anything(site):
    assert site.recorder.login("10.0.0.1") == ("OK", "")
    site.sql(OURS_ALONE[site.kind])
    assert site.recorder.login("198.51.100.1")[0] == "NO"
    for number in range(2, 5):
        assert site.recorder.login(f"10.0.0.{number}") == ("OK", "")
    status = site.recorder.status()
    assert status["outcomes"] == {"committed": 4, "not taken": 1}
    assert set(site.recorder.rows()) == {f"10.0.0.{number}" for number in range(1, 5)}
    assert not site.recorder.events("database_down")


def test_a_login_that_is_in_doubt_waits_until_another_one_is_taken(site):
    site.sql(OURS_ALONE[site.kind])
    # Nothing else is known of the database.
    assert site.recorder.login("198.51.100.1") == ("OK", "")
    wait_until(lambda: site.recorder.events("database_down"), PATIENCE_S, "the doubt")
    assert site.recorder.status()["spool"]["logins"] == 1
    assert site.recorder.login("10.0.0.1") == ("OK", "")
    drained(site.recorder)
    assert site.recorder.login("10.0.0.2") == ("OK", "")
    assert set(site.recorder.rows()) == {"10.0.0.1", "10.0.0.2"}
    assert site.recorder.status()["outcomes"]["not taken"] == 1


def test_flush_writes_the_logins_behind_one_that_is_in_doubt(site):
    site.sql(OURS_ALONE[site.kind])
    site.recorder.kill()
    spool_a_login_of(site, "198.51.100.1")
    done = site.recorder.toolkit("flush")
    assert (done.returncode, done.stdout) == (75, "")
    assert "not ours" in done.stderr
    spool_a_login_of(site, "10.0.0.1")
    assert site.recorder.toolkit("flush").stdout == "1\n"
    done = site.recorder.toolkit("flush")
    assert (done.returncode, done.stdout) == (0, "0\n")
    assert set(site.recorder.rows()) == {"10.0.0.1"}


def test_a_refused_login_is_not_remembered(site):
    site.sql(NO_GUESTS[site.kind])
    assert site.recorder.login("198.51.100.7", "guest")[0] == "NO"
    assert site.recorder.login("198.51.100.7", "alice") == ("OK", "")
    assert site.recorder.rows() == {"198.51.100.7": "alice"}


def test_of_logins_that_wait_together_a_refused_one_does_not_lose_the_others(site):
    site.sql(NO_GUESTS[site.kind])
    site.recorder.configure(top="wrapper = { wait = 50 }", recorder="reply_timeout = 50")
    site.recorder.hup()
    answers = {}

    def login(user):
        answers[user] = site.recorder.login("198.51.100.7", user)[0]

    site.server.pause()
    try:
        # The first one is in the commit that hangs; the others wait together for the next.
        threads = [threading.Thread(target=login, args=(f"user{n}",)) for n in range(3)]
        threads += [threading.Thread(target=login, args=("guest",))]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda n=number: asked(site.recorder) == n, PATIENCE_S, "the login")
    finally:
        site.server.resume()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers.pop("guest") == "NO"
    assert set(answers.values()) == {"OK"}
    assert set(site.recorder.rows()) == {"198.51.100.7"}


def test_of_logins_that_are_spooled_together_a_refused_one_does_not_lose_the_others(site):
    site.sql(NO_GUESTS[site.kind])
    # A commit may take 4 s before its logins, and those that wait behind it, go to the spool.
    site.recorder.configure(top="wrapper = { wait = 20 }", recorder="reply_timeout = 20")
    site.recorder.hup()
    answers = {}

    def login(address, user):
        answers[user] = site.recorder.login(address, user)

    site.server.pause()
    try:
        # The first one is in the commit that hangs; the others wait together.
        threads = [threading.Thread(target=login, args=("203.0.113.1", "first"))]
        threads += [
            threading.Thread(target=login, args=("198.51.100.7", user))
            for user in ("alice", "bob", "guest")
        ]
        for number, thread in enumerate(threads, 1):
            thread.start()
            wait_until(lambda n=number: asked(site.recorder) == n, PATIENCE_S, "the login")
        for thread in threads:
            thread.join(PATIENCE_S)
        assert answers == dict.fromkeys(("first", "alice", "bob", "guest"), ("OK", ""))
        assert site.recorder.status()["spool"]["logins"] == 4
    finally:
        site.server.resume()
    drained(site.recorder)
    assert site.recorder.rows() == {"203.0.113.1": "first", "198.51.100.7": "bob"}
    assert site.recorder.events("login_not_taken")[0]["address"] == "198.51.100.7"


def test_refused_logins_come_out_of_the_spool_and_the_others_reach_the_table(site):
    site.sql(NO_GUESTS[site.kind])
    site.server.stop()
    try:
        for address in SHORT:
            assert site.recorder.login(address, "guest") == ("OK", "")
            assert site.recorder.login(f"198.51.100.{SHORT.index(address)}") == ("OK", "")
        # An earlier login of the same address is good.
        assert site.recorder.login("203.0.113.1", "alice") == ("OK", "")
    finally:
        site.server.start()
    drained(site.recorder)
    expected = {f"198.51.100.{number}" for number in range(len(SHORT))} | {"203.0.113.1"}
    assert set(site.recorder.rows()) == expected
    assert site.recorder.status()["outcomes"]["not taken"] == len(SHORT)


def test_flush_drops_what_is_refused_and_keeps_what_is_locked(site):
    site.sql(NO_GUESTS[site.kind])
    assert site.recorder.login("198.51.100.1") == ("OK", "")
    site.server.stop()
    try:
        assert site.recorder.login("198.51.100.2", "guest") == ("OK", "")
        assert site.recorder.login("198.51.100.3") == ("OK", "")
    finally:
        site.recorder.kill()
        site.server.start()
    with lock_of(site, "198.51.100.1"):
        spool_a_login_of(site, "198.51.100.1")
        done = site.recorder.toolkit("flush")
        assert done.stdout == "1\n"
        assert "198.51.100.2 not recorded: " in done.stderr
        assert "198.51.100.1 stays in the spool: " in done.stderr
    assert site.recorder.toolkit("flush").stdout == "1\n"
    assert site.recorder.toolkit("flush").stdout == "0\n"
    assert set(site.recorder.rows()) == {"198.51.100.1", "198.51.100.3"}


def spool_a_login_of(site, address):
    put(str(site.recorder.spool), 1 << 20, Login(address, "bob"), Stamp.now())


@contextlib.contextmanager
def lock_of(site, address):
    """Hold the row of *address* in a transaction that stays open."""
    with contextlib.closing(site.session()) as session, session.cursor() as cursor:
        cursor.execute(f"UPDATE popbsmtp SET username = 'x' WHERE address = '{address}'")
        yield
        session.rollback()


def asked(recorder):
    return sum(recorder.status()["logins"].values())


def drained(recorder):
    def nothing_waits():
        status = recorder.status()
        return status["database"]["state"] == "up" and status["spool"]["logins"] == 0

    wait_until(nothing_waits, PATIENCE_S, "the drain")


def test_a_locked_row_delays_its_own_address_alone(site):
    held = "198.51.100.7"
    assert site.recorder.login(held, "before") == ("OK", "")
    site.recorder.configure(recorder="refresh = 0")
    site.recorder.hup()
    with lock_of(site, held):
        for number in range(3):
            # Safe in the spool while the row is locked.
            assert site.recorder.login(held, f"later{number}") == ("OK", "")
            for address in SHORT:
                assert site.recorder.login(address, f"user{number}") == ("OK", "")
                wait_until(
                    lambda a=address: site.recorder.rows().get(a) is not None, PATIENCE_S, address
                )
        assert site.recorder.rows()[held] == "before"
        assert site.recorder.status()["spool"]["logins"] >= 1
        assert site.recorder.events("row_locked")[0]["address"] == held
        assert not site.recorder.events("database_down")
    drained(site.recorder)
    assert site.recorder.rows()[held] == "later2"
