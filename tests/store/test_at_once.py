"""A few logins committed at once, by a caller who may not wait."""

import time
from contextlib import closing, contextmanager

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries
from popbsmtp_wrap.store.batch import BatchWriter, Outcome, Seen
from popbsmtp_wrap.store.dialects import dialect_named
from popbsmtp_wrap.store.engine import open_store
from tests.store.places import ADDRESS, GRACE_S, LOCK_TABLE, OTHER

ONE = Login(ADDRESS, "alice", "imap")
# Longer than any commit on a busy machine, shorter than anybody's patience.
LIMIT_S = 5.0


def resident(place, answer_s=20):
    return BatchWriter(open_store(place.database, answer_s, stay_connected=True, autocommit=True))


@pytest.fixture
def writer(place):
    place.created()
    writer = resident(place)
    writer.ping()
    yield writer
    writer.close()


def seen(*several, ago_s=0.0):
    return [Seen(login, time.monotonic() - ago_s) for login in several]


def rows(writer):
    found = queries.rows(writer.store, GRACE_S)
    return sorted((row.address, row.user, row.service) for row in found)


@contextmanager
def locked(place, statement):
    """Keep others from what *statement* has changed."""
    with closing(place.session()) as other:
        cursor = other.cursor()
        if place.kind == "sqlite":
            cursor.execute("BEGIN IMMEDIATE")
        cursor.execute(statement)
        yield
        other.rollback()


def test_logins_are_in_the_table_for_everybody(place, writer):
    assert writer.write_at_once(seen(ONE, Login(OTHER)), LIMIT_S)
    assert place.addresses() == sorted([ADDRESS, OTHER])
    assert rows(writer) == [(ADDRESS, "alice", "imap"), (OTHER, None, None)]
    assert writer.write_at_once(seen(Login(ADDRESS, "bob", "pop3")), LIMIT_S)
    assert rows(writer) == [(ADDRESS, "bob", "pop3"), (OTHER, None, None)]


def test_nothing_is_done_without_an_open_connection(place):
    place.created()
    writer = resident(place)
    assert not writer.write_at_once(seen(ONE), LIMIT_S)
    assert place.addresses() == []
    assert writer.write(seen(ONE)) == Outcome()
    assert writer.write_at_once(seen(Login(OTHER)), LIMIT_S)
    assert place.addresses() == sorted([ADDRESS, OTHER])
    writer.close()


def test_what_waited_is_older_by_that(writer):
    assert writer.write_at_once(seen(ONE, ago_s=600), LIMIT_S)
    assert GRACE_S - 660 < queries.remaining_s(writer.store, ADDRESS, GRACE_S) <= GRACE_S - 600


def test_a_late_login_does_not_move_the_last_one_back(writer):
    assert writer.write_at_once(seen(ONE), LIMIT_S)
    assert writer.write_at_once(seen(Login(ADDRESS, "bob", "pop3", 600)), LIMIT_S)
    assert rows(writer) == [(ADDRESS, "alice", "imap")]
    assert queries.remaining_s(writer.store, ADDRESS, GRACE_S) > GRACE_S - 60


def test_a_locked_row_costs_the_limit_and_is_left_to_those_who_can_wait(place, writer):
    assert writer.write(seen(ONE)) == Outcome()
    with locked(place, "UPDATE popbsmtp SET username = 'x'"):
        began = time.monotonic()
        assert not writer.write_at_once(seen(Login(ADDRESS, "bob", "pop3")), 0.1)
        # write() would have waited for 20 s.
        assert 0.05 < time.monotonic() - began < 15
    assert writer.write(seen(Login(ADDRESS, "bob", "pop3"))) == Outcome()
    assert rows(writer) == [(ADDRESS, "bob", "pop3")]


def test_the_limit_is_not_that_of_the_next_write(place, writer):
    impatient = resident(place, 2.5)
    impatient.ping()
    assert impatient.write_at_once(seen(ONE), 0.5)
    with locked(place, LOCK_TABLE[place.kind]):
        began = time.monotonic()
        with pytest.raises(PopbsmtpError):
            impatient.write(seen(Login(ADDRESS, "bob", "pop3")))
        assert time.monotonic() - began >= 1.4
    assert impatient.write(seen(Login(ADDRESS, "bob", "pop3"))) == Outcome()
    impatient.close()


def test_a_connection_that_was_lost_is_left_to_those_who_can_wait(place, writer):
    assert writer.write_at_once(seen(ONE), LIMIT_S)
    writer._session.driver_connection.close()
    assert not writer.write_at_once(seen(Login(OTHER)), LIMIT_S)
    assert writer.write(seen(Login(OTHER))) == Outcome()
    assert writer.write_at_once(seen(Login("192.0.2.9")), LIMIT_S)
    assert place.addresses() == sorted([ADDRESS, OTHER, "192.0.2.9"])


def test_names_that_the_table_does_not_take_are_left_to_those_who_can_cut(place):
    place.created()
    place.sql(*narrow(place))
    writer = resident(place)
    writer.ping()
    long_name = Login(ADDRESS, "x" * 100, "imap")
    if not writer.write_at_once(seen(long_name), LIMIT_S):
        assert writer.write(seen(long_name)) == Outcome()
    assert place.addresses() == [ADDRESS]
    writer.close()


def narrow(place):
    return {
        "sqlite": ["SELECT 1"],
        "postgresql": ["ALTER TABLE popbsmtp ALTER COLUMN username TYPE varchar(20)"],
        "mysql": ["ALTER TABLE popbsmtp MODIFY username varchar(20)"],
    }[place.kind]


def test_postgresql_executes_what_it_has_parsed_before(postgres_place):
    postgres_place.created()
    writer = resident(postgres_place)
    writer.ping()
    for number in range(3):
        assert writer.write_at_once(seen(Login(f"192.0.2.{number}")), LIMIT_S)
        assert writer.write_at_once(seen(Login(f"192.0.2.{number}"), ONE), LIMIT_S)
    with closing(writer._session.driver_connection.cursor()) as cursor:
        cursor.execute("SELECT generic_plans + custom_plans FROM pg_prepared_statements")
        assert cursor.fetchall() == [(3,), (3,)]
    writer.close()


def test_a_pooler_without_prepared_statements_costs_no_login(postgres_place):
    """As PgBouncer does it in transaction mode: the next statement has another connection."""
    postgres_place.created()
    writer = resident(postgres_place)
    writer.ping()
    assert writer.write_at_once(seen(ONE), LIMIT_S)
    with closing(writer._session.driver_connection.cursor()) as cursor:
        cursor.execute("DEALLOCATE ALL")
    assert not writer.write_at_once(seen(Login(OTHER)), LIMIT_S)
    assert writer.write(seen(Login(OTHER))) == Outcome()
    assert postgres_place.addresses() == sorted([ADDRESS, OTHER])
    writer.close()


def test_what_the_driver_would_escape_is_itself_in_a_prepared_statement():
    text = 'INSERT INTO "50%%" (a, t, b) VALUES (%(a0)s, %(t0)s, %(a0)s)'
    assert dialect_named("postgresql").prepared("p", text) == (
        'PREPARE p AS INSERT INTO "50%" (a, t, b) VALUES ($1, $2, $1)',
        "EXECUTE p (%(a0)s, %(t0)s)",
    )


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_nothing_is_done_in_a_transaction_that_nobody_would_end(places, kind):
    place = places.new(kind)
    place.created()
    writer = BatchWriter(open_store(place.database, 20, stay_connected=True))
    writer.ping()
    assert not writer.write_at_once(seen(ONE), LIMIT_S)
    assert writer.write(seen(ONE)) == Outcome()
    assert place.addresses() == [ADDRESS]
    writer.close()


def test_a_driver_whose_waits_cannot_be_bounded_is_not_asked(sqlite_place, monkeypatch):
    sqlite_place.created()
    writer = resident(sqlite_place)
    writer.ping()
    monkeypatch.setattr(type(writer.store.engine.dialect), "driver", "another")
    assert not writer.write_at_once(seen(ONE), LIMIT_S)
    assert sqlite_place.addresses() == []
    writer.close()


def test_one_connection_serves_both_ways(place, writer):
    opened = []
    sa.event.listen(writer.store.engine, "connect", lambda connection, _: opened.append(connection))
    for number in range(3):
        assert writer.write_at_once(seen(Login(f"192.0.2.{number}")), LIMIT_S)
        assert writer.write(seen(Login(f"198.51.100.{number}"))) == Outcome()
    assert opened == []
    assert len(place.addresses()) == 6
