"""An error that passes costs no login: statements that somebody cancels, sessions that end."""

import contextlib
import os
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from sqlalchemy.exc import OperationalError

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import StoreUnavailableError
from popbsmtp_wrap.recorder.flush import flush
from popbsmtp_wrap.spool.append import put
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.store.batch import Outcome
from popbsmtp_wrap.store.dialects import dialect_named
from tests.harness.directories import public_directory
from tests.store.places import ADDRESS
from tests.store.test_refused_rows import GOOD, GUEST, resident, seen, trigger

SLEEP = {"postgresql": "PERFORM pg_sleep(0.3)", "mysql": "DO SLEEP(0.3)"}
SLEEPING = {
    "postgresql": "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    " AND datname = current_database()",
    "mysql": "SELECT id FROM information_schema.processlist"
    " WHERE state = 'User sleep' AND db = DATABASE()",
}
END = {
    "statement": {"postgresql": "SELECT pg_cancel_backend({})", "mysql": "KILL QUERY {}"},
    "session": {"postgresql": "SELECT pg_terminate_backend({})", "mysql": "KILL {}"},
}


@pytest.fixture(params=["postgresql", "mysql"])
def place(request, places):
    place = places.new(request.param)
    place.created()
    place.sql(*trigger(place.kind, "new.username = 'guest'", SLEEP))
    return place


@contextlib.contextmanager
def ended(place, what, times):
    """End *what* of our writer, as often as it sleeps, up to *times*."""
    stop, done = threading.Event(), []

    def end():
        with closing(place.session()) as session, session.cursor() as cursor:
            while not stop.is_set() and len(done) < times:
                cursor.execute(SLEEPING[place.kind])
                for (number,) in cursor.fetchall():
                    with contextlib.suppress(Exception):
                        cursor.execute(END[what][place.kind].format(number))
                        done.append(number)
                session.commit()
                time.sleep(0.05)

    thread = threading.Thread(target=end)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def spool_of(place, *logins):
    """Return settings with a spool that holds *logins*."""
    settings = Settings(database=place.database)
    path = str(public_directory())
    settings = replace(settings, recorder=replace(settings.recorder, spool=path))
    for login in logins:
        put(path, settings.recorder.spool_size, login, Stamp.now())
    return settings


@pytest.mark.parametrize("what", END)
def test_a_login_whose_statement_is_ended_is_written_the_next_time(place, what):
    with closing(resident(place)) as writer:
        assert writer.write(seen(GOOD[0])) == Outcome()
        with ended(place, what, 1) as done, contextlib.suppress(StoreUnavailableError):
            assert writer.write(seen(GUEST, *GOOD[:3])) == Outcome()
        assert done
        assert writer.write(seen(GUEST, *GOOD[:3])) == Outcome()
    assert place.addresses() == sorted([ADDRESS, *(login.address for login in GOOD[:3])])


@pytest.mark.parametrize("what", END)
def test_statements_that_are_ended_again_and_again_refuse_nobody(place, what):
    with closing(resident(place)) as writer:
        assert writer.write(seen(GOOD[0])) == Outcome()
        with ended(place, what, 100), pytest.raises(StoreUnavailableError) as raised:
            writer.write(seen(GUEST))
    assert not raised.value.in_doubt


@pytest.mark.parametrize("what", END)
def test_flush_keeps_a_login_whose_statement_is_ended(place, what):
    settings = spool_of(place, GUEST)
    committed = 0
    with ended(place, what, 1) as done, contextlib.suppress(StoreUnavailableError):
        flushed = flush(place.store(20), settings)
        assert flushed.problems == []
        committed = flushed.committed
    assert done
    assert committed + flush(place.store(20), settings).committed == 1
    assert place.addresses() == [ADDRESS]
    assert not [name for name in os.listdir(settings.recorder.spool) if name.endswith(".spool")]


PASSING = {
    "mysql": (1020, 1158, 1159, 1160, 1161, 1180, 1205, 1213, 1317, 1412, 1927, 2013, 3101, 4031),
    "postgresql": (
        *("08006", "25006", "25P03", "40001", "40003", "40P01", "53000", "53100", "53200", "53300"),
        *("55006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05", "58030", "72000"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "code"), [(kind, code) for kind, codes in PASSING.items() for code in codes]
)
def test_what_passes_is_never_that_of_one_row(kind, code, places):
    error = Exception(code, "text")
    error.pgcode = code
    trouble = dialect_named(kind).classify(
        OperationalError("INSERT", {}, error), Settings().database
    )
    assert issubclass(trouble.kind, StoreUnavailableError)
    assert not trouble.ambiguous


def test_an_error_without_a_name_is_no_refusal_when_it_has_passed(places):
    """One that a trigger raises the first time only."""
    place = places.new("mysql")
    place.created()
    place.sql(
        "CREATE TABLE tries (n int) ENGINE = MyISAM",
        *trigger(
            "mysql",
            "new.username = 'guest'",
            {
                "mysql": "INSERT INTO tries VALUES (1); IF (SELECT count(*) FROM tries) = 1 THEN"
                " SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 30815, MESSAGE_TEXT = 'x'; END IF"
            },
        ),
    )
    with closing(resident(place)) as writer:
        assert writer.write(seen(GOOD[0])) == Outcome()
        assert writer.write(seen(GUEST)) == Outcome()
    assert ADDRESS in place.addresses()
