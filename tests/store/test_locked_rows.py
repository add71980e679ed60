"""A row that somebody else holds delays its own address; a table that is held, everybody."""

import threading
import time
from contextlib import closing, contextmanager

import pytest

from popbsmtp_wrap.errors import LockedError, StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries
from popbsmtp_wrap.store.batch import BatchWriter, Outcome, Seen
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.renewal import renew
from tests.store.places import ADDRESS, GRACE_S, LOCK_TABLE, OTHER

MANY = [Login(f"192.0.2.{number}", "ann", "imap") for number in range(1, 101)]
HELD = [Login(ADDRESS, "bob"), Login(OTHER, "bob")]
ANSWER_S = 20
# Longer than it takes on a busy machine, shorter than an answer.
SOON_S = 10


@pytest.fixture(params=["postgresql", "mysql"])
def server_place(request, places):
    place = places.new(request.param)
    place.created()
    for login in HELD:
        place.put(login.address, 60)
    return place


def resident(place, answer_s=ANSWER_S, autocommit=True):
    store = open_store(place.database, answer_s, stay_connected=True, autocommit=autocommit)
    return BatchWriter(store)


@pytest.fixture
def writer(server_place):
    with closing(resident(server_place)) as writer:
        writer.ping()
        yield writer


def seen(*several):
    return [Seen(login, time.monotonic()) for login in several]


@contextmanager
def held(place, *statements):
    """Keep what *statements* lock in a transaction of somebody else."""
    with closing(place.session()) as other:
        cursor = other.cursor()
        for statement in statements:
            cursor.execute(statement)
        yield
        other.rollback()


HOLDS = {
    "update": "UPDATE popbsmtp SET username = 'x' WHERE address = '{0}'",
    "select": "SELECT address FROM popbsmtp WHERE address = '{0}' FOR UPDATE",
    "delete": "DELETE FROM popbsmtp WHERE address = '{0}'",
    "insert": "INSERT INTO popbsmtp (address) VALUES ('{0}')",
}


def locked(outcome):
    assert outcome.refused == ()
    return sorted(locked.seen.login.address for locked in outcome.locked)


@pytest.mark.parametrize("hold", HOLDS)
def test_locked_row_delays_its_own_address_alone(server_place, writer, hold):
    if hold == "insert":
        server_place.sql("DELETE FROM popbsmtp")
    with held(server_place, HOLDS[hold].format(ADDRESS)):
        began = time.monotonic()
        outcome = writer.write(seen(*MANY[:30], HELD[0], *MANY[30:60]))
        assert time.monotonic() - began < SOON_S
        assert locked(outcome) == [ADDRESS]
        [(address, count)] = server_place.sql(
            "SELECT min(address), count(*) FROM popbsmtp WHERE username = 'ann'"
        )
        assert (address, count) == (min(login.address for login in MANY[:60]), 60)
        # The next ones do not wait for it.
        assert writer.write(seen(*MANY[60:])) == Outcome()
    assert writer.write(seen(HELD[0])) == Outcome()
    assert server_place.sql(f"SELECT username FROM popbsmtp WHERE address = '{ADDRESS}'") == [
        ("bob",)
    ]


def test_locked_row_alone_is_no_outage(server_place, writer):
    with held(server_place, HOLDS["update"].format(ADDRESS)):
        for _ in range(2):
            assert locked(writer.write(seen(HELD[0]))) == [ADDRESS]
        writer.ping()


def test_several_locked_rows_are_all_named(server_place, writer):
    for login in MANY[:50]:
        server_place.put(login.address, 60)
    # Otherwise MariaDB locks the gaps between the rows as well.
    statements = ["UPDATE popbsmtp SET username = 'x'"]
    if server_place.kind == "mysql":
        statements.insert(0, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    with held(server_place, *statements):
        assert len(locked(writer.write(seen(*MANY)))) == 50
    assert server_place.sql("SELECT count(*) FROM popbsmtp") == [(102,)]


def test_without_autocommit_it_is_the_same(server_place):
    with (
        closing(resident(server_place, autocommit=False)) as writer,
        held(server_place, HOLDS["update"].format(ADDRESS)),
    ):
        assert locked(writer.write(seen(*MANY[:3], HELD[0]))) == [ADDRESS]
    assert len(server_place.addresses()) == 5


def test_database_that_cannot_tell_which_rows_are_locked_is_searched(
    server_place, writer, monkeypatch
):
    # As MySQL 5.7 and MariaDB 10.5 are, which have no SKIP LOCKED: a syntax error.
    monkeypatch.setattr(
        type(writer.store.dialect), "skip_locked", lambda _, query: query.suffix_with("SKIP IT")
    )
    with held(server_place, HOLDS["update"].format(ADDRESS)):
        assert locked(writer.write(seen(*MANY[:3], HELD[0], *MANY[3:8]))) == [ADDRESS]
    assert len(server_place.addresses()) == 10


def test_locked_and_refused_rows_are_told_apart(server_place, writer):
    server_place.sql("ALTER TABLE popbsmtp ADD CONSTRAINT sober CHECK (username <> 'guest')")
    with held(server_place, HOLDS["update"].format(ADDRESS)):
        outcome = writer.write(seen(Login("192.0.2.200", "guest"), HELD[0], *MANY[:9]))
        assert [refused.seen.login.user for refused in outcome.refused] == ["guest"]
        assert [held.seen.login for held in outcome.locked] == [HELD[0]]
    assert len(server_place.addresses()) == 11


def test_locked_table_is_unavailable_after_the_time_of_an_answer(server_place):
    with (
        closing(resident(server_place, 3)) as writer,
        held(server_place, LOCK_TABLE[server_place.kind]),
    ):
        for batch in (seen(HELD[0]), seen(*MANY)):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                writer.write(batch)
            assert 1.5 < time.monotonic() - began < 3 * SOON_S
        with pytest.raises(StoreUnavailableError):
            writer.ping()


def test_index_that_is_built_keeps_logins_out_and_readers_in(places):
    place = places.new("postgresql")
    store = place.created()
    with (
        closing(resident(place, 2)) as writer,
        held(place, "CREATE INDEX busy ON popbsmtp (service)"),
    ):
        with pytest.raises(StoreUnavailableError):
            writer.write(seen(*MANY))
        with pytest.raises(LockedError):
            writer.ping()
        assert queries.remaining_s(store, ADDRESS, GRACE_S) is None


def test_short_lock_on_the_table_is_waited_for(server_place, writer):
    with closing(server_place.session()) as other:
        other.cursor().execute(LOCK_TABLE[server_place.kind])
        release = {"postgresql": "COMMIT", "mysql": "UNLOCK TABLES"}[server_place.kind]
        timer = threading.Timer(1.0, lambda: other.cursor().execute(release))
        timer.start()
        assert writer.write(seen(*MANY)) == Outcome()
        timer.join()


def test_nothing_of_a_login_that_was_given_up_is_written_later(server_place, writer):
    with held(server_place, HOLDS["update"].format(ADDRESS)):
        assert locked(writer.write(seen(HELD[0]))) == [ADDRESS]
        assert not writer.write_at_once(seen(HELD[0]), 0.05)
        writer.ping()
    time.sleep(0.3)
    assert server_place.sql("SELECT count(*) FROM popbsmtp WHERE username = 'bob'") == [(0,)]
    revoked = server_place.sql("DELETE FROM popbsmtp", "SELECT count(*) FROM popbsmtp")
    assert revoked == [(0,)]


def test_a_renewal_leaves_a_locked_row_alone_and_renews_the_others(server_place):
    store = open_store(server_place.database, 2, stay_connected=True)
    others = [f"192.0.2.{number}" for number in range(1, 6)]
    for address in others:
        server_place.put(address, 60)
    with held(server_place, HOLDS["update"].format(ADDRESS)):
        renewed = renew(store, sorted([ADDRESS, *others]), time.monotonic(), GRACE_S).rows
    assert renewed == len(others)
    ages = {row.address: GRACE_S - row.remaining_s for row in queries.rows(store, GRACE_S)}
    assert max(ages[address] for address in others) < 60 <= ages[ADDRESS]


def test_a_login_that_waited_for_the_table_is_committed_when_that_is_free(server_place, writer):
    new = Login("192.0.2.77", "ann")
    outcomes = []
    with closing(server_place.session()) as other:
        other.cursor().execute(LOCK_TABLE[server_place.kind])
        thread = threading.Thread(target=lambda: outcomes.append(writer.write(seen(new))))
        thread.start()
        time.sleep(1)
        assert thread.is_alive()
    thread.join(ANSWER_S)
    assert outcomes == [Outcome()]
    assert new.address in server_place.addresses()
