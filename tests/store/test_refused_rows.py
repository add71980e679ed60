"""A row that the database refuses costs its own login, and nobody else's."""

import time
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.errors import (
    PopbsmtpError,
    RowRefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import upsert
from popbsmtp_wrap.store.batch import BatchWriter, Outcome, Seen
from popbsmtp_wrap.store.engine import open_store
from tests.store.places import ADDRESS

GOOD = [Login(f"192.0.2.{number}", "ann", "imap") for number in range(1, 40)]
LONG = "2001:db8:1111:2222:3333:4444:5555:6666"
GUEST = Login(ADDRESS, "guest", "imap")


def trigger(kind, when, action):
    """Return the SQL of a trigger before each new row: *action* {kind: SQL} where *when* holds."""
    create = "CREATE TRIGGER refuse BEFORE INSERT ON popbsmtp "
    if kind == "sqlite":
        return [f"{create} WHEN {when} BEGIN SELECT {action[kind]}; END"]
    body = f"IF {when} THEN {action[kind]}; END IF"
    if kind == "mysql":
        return [f"{create} FOR EACH ROW {body}"]
    function = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
    return [
        f"{function} $$ BEGIN {body}; RETURN new; END $$",
        f"{create} FOR EACH ROW EXECUTE FUNCTION refuse()",
    ]


def check(kind, condition):
    if kind == "sqlite":
        abort = {"sqlite": "RAISE(ABORT, 'CHECK constraint failed: sober')"}
        return trigger(kind, f"NOT ({condition.replace('username', 'new.username')})", abort)
    return [f"ALTER TABLE popbsmtp ADD CONSTRAINT sober CHECK ({condition})"]


NO_GUEST = "new.username = 'guest'"
RULES = {
    "check": lambda kind: check(kind, "username <> 'guest'"),
    "trigger": lambda kind: trigger(
        kind,
        NO_GUEST,
        {
            "postgresql": "RAISE EXCEPTION 'sober'",
            "mysql": "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'sober'",
            "sqlite": "RAISE(ABORT, 'sober')",
        },
    ),
    # Numbers and codes that nobody has reserved.
    "own code": lambda kind: trigger(
        kind,
        NO_GUEST,
        {
            "postgresql": "RAISE EXCEPTION 'sober' USING ERRCODE = 'U0815'",
            "mysql": "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 30815, MESSAGE_TEXT = 'sober'",
            "sqlite": "RAISE(FAIL, 'sober')",
        },
    ),
    "permission": lambda kind: trigger(
        kind,
        NO_GUEST,
        {
            "postgresql": "RAISE EXCEPTION 'sober' USING ERRCODE = '42501'",
            "mysql": "SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1142, MESSAGE_TEXT = 'sober'",
            "sqlite": "RAISE(ROLLBACK, 'sober')",
        },
    ),
    "schema": lambda kind: trigger(
        kind,
        NO_GUEST,
        {
            "postgresql": "PERFORM sober FROM nowhere",
            "mysql": "SIGNAL SQLSTATE '42S02' SET MYSQL_ERRNO = 1146, MESSAGE_TEXT = 'sober'",
            "sqlite": "RAISE(ABORT, 'sober')",
        },
    ),
}


def seen(*several):
    return [Seen(login, time.monotonic()) for login in several]


def resident(place, autocommit=True):
    store = open_store(place.database, 20, stay_connected=True, autocommit=autocommit)
    return BatchWriter(store)


@pytest.fixture
def writer(place):
    place.created()
    with closing(resident(place)) as writer:
        yield writer


def found(outcome):
    return [(refused.seen.login, refused.reason) for refused in outcome.refused]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("count", [0, 1, 20])
def test_login_that_a_rule_refuses_is_named_and_the_others_are_written(place, writer, rule, count):
    place.sql(*RULES[rule](place.kind))
    others = GOOD[:count]
    batch = seen(*others[: count // 2], GUEST, *others[count // 2 :])
    outcome = writer.write(batch)
    [(login, reason)] = found(outcome)
    assert login == GUEST
    assert "sober" in reason or "nowhere" in reason
    assert outcome.locked == ()
    assert place.addresses() == sorted(login.address for login in others)
    assert writer.write(seen(*GOOD)) == Outcome()


@pytest.mark.parametrize("rule", RULES)
def test_without_autocommit_it_is_the_same(place, rule):
    place.created()
    place.sql(*RULES[rule](place.kind))
    with closing(resident(place, autocommit=False)) as writer:
        assert [login for login, _ in found(writer.write(seen(*GOOD[:3], GUEST)))] == [GUEST]
    assert place.addresses() == sorted(login.address for login in GOOD[:3])


def test_all_of_a_batch_may_be_refused(place, writer):
    place.sql(*RULES["check"](place.kind))
    guests = [replace(login, user="guest") for login in GOOD[:5]]
    assert [login for login, _ in found(writer.write(seen(*guests)))] == guests
    assert place.addresses() == []


def test_a_good_login_of_an_address_is_written_beside_a_refused_later_one(place, writer):
    place.sql(*RULES["check"](place.kind))
    earlier = Login(ADDRESS, "ann", "imap", 60)
    outcome = writer.write(seen(earlier, GUEST))
    assert [login for login, _ in found(outcome)] == [GUEST]
    assert place.sql("SELECT username FROM popbsmtp") == [("ann",)]


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_address_that_is_too_long_for_its_column_is_refused_alone(places, kind):
    place = places.new(kind)
    place.created()
    place.sql(
        {
            "postgresql": "ALTER TABLE popbsmtp ALTER address TYPE varchar(20)",
            "mysql": "ALTER TABLE popbsmtp MODIFY address varchar(20) CHARACTER SET ascii",
        }[kind]
    )
    with closing(resident(place)) as writer:
        for batch in ([Login(LONG, "ann")], [Login(LONG, "ann"), *GOOD[:4]]):
            [(login, reason)] = found(writer.write(seen(*batch)))
            assert login.address == LONG
            assert "make the column wider" in reason
    assert place.addresses() == sorted(login.address for login in GOOD[:4])


def test_name_that_does_not_fit_is_cut_and_the_login_committed(places):
    for kind in ("postgresql", "mysql"):
        place = places.new(kind)
        place.created()
        place.sql(
            {
                "postgresql": "ALTER TABLE popbsmtp ALTER username TYPE varchar(20)",
                "mysql": "ALTER TABLE popbsmtp MODIFY username varchar(20)",
            }[kind]
        )
        with closing(resident(place)) as writer:
            assert writer.write(seen(Login(ADDRESS, "x" * 50), *GOOD[:2])) == Outcome()
        assert place.sql(f"SELECT username FROM popbsmtp WHERE address = '{ADDRESS}'") == [
            ("x" * 20,)
        ]


@pytest.mark.parametrize("rule", ["check", "trigger", "own code"])
def test_record_says_what_refuses_the_login_and_leaves_no_name_out(place, rule):
    store = place.created()
    place.sql(*RULES[rule](place.kind))
    with pytest.raises(PopbsmtpError, match="sober") as raised:
        upsert.record(store, GUEST)
    if rule != "own code" or place.kind == "sqlite":
        assert isinstance(raised.value, RowRefusedError)
        assert raised.value.exit_code == 77
    assert place.addresses() == []


def test_null_in_a_column_of_ours_is_refused_alone(place):
    place.created()
    if place.kind == "sqlite":
        place.sql(
            "DROP TABLE popbsmtp",
            "CREATE TABLE popbsmtp (address TEXT PRIMARY KEY, last_seen INTEGER, first_seen INTEGER"
            ", username TEXT NOT NULL, service TEXT)",
        )
    else:
        place.sql(
            {
                "postgresql": "ALTER TABLE popbsmtp ALTER username SET NOT NULL",
                "mysql": "ALTER TABLE popbsmtp MODIFY username varchar(255) NOT NULL",
            }[place.kind]
        )
    with closing(resident(place)) as writer:
        outcome = writer.write(seen(Login(ADDRESS), *GOOD[:3]))
        if place.kind == "mysql":
            # Several rows in one statement: MariaDB takes "" for NULL in all but the first.
            assert {refused.seen.login.address for refused in outcome.refused} <= {ADDRESS}
        else:
            assert [refused.seen.login for refused in outcome.refused] == [Login(ADDRESS)]
    assert {login.address for login in GOOD[:3]} <= set(place.addresses())


def test_trouble_of_all_rows_is_not_that_of_one(place, writer):
    place.sql("ALTER TABLE popbsmtp RENAME TO away")
    for batch in (seen(GUEST), seen(GUEST, *GOOD)):
        with pytest.raises(SchemaError):
            writer.write(batch)
    place.sql("ALTER TABLE away RENAME TO popbsmtp")
    assert writer.write(seen(GUEST)) == Outcome()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_trigger_that_fails_for_every_row_is_not_a_refused_login(places, kind):
    place = places.new(kind)
    place.created()
    action = {
        "postgresql": "INSERT INTO nowhere VALUES (1)",
        "mysql": "INSERT INTO nowhere VALUES (1)",
    }
    place.sql(*trigger(kind, "true", action))
    with closing(resident(place)) as writer:
        for batch in (seen(GUEST), seen(GUEST, *GOOD)):
            with pytest.raises(SchemaError):
                writer.write(batch)
    assert place.addresses() == []


def test_nobodys_address_is_never_kept(place, writer):
    place.sql(*RULES["permission"](place.kind))
    writer.write(seen(GUEST))
    assert place.addresses() == []


@pytest.mark.parametrize("autocommit", [True, False])
def test_read_only_postgresql_refuses_nobody(postgres_place, autocommit):
    postgres_place.created()
    with closing(resident(postgres_place, autocommit)) as writer:
        assert writer.write(seen(GOOD[0])) == Outcome()
        name = postgres_place.name
        postgres_place.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        writer._session.close()
        for batch in (seen(GUEST), seen(*GOOD)):
            with pytest.raises(StoreUnavailableError, match="read-only"):
                writer.write(batch)
        with pytest.raises(StoreUnavailableError, match="read-only"):
            writer.ping()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_server_that_stops_between_the_rows_refuses_nobody(places, kind):
    place = places.new(kind)
    place.created()
    place.sql(*RULES["check"](kind))
    inserts = []
    with closing(resident(place)) as writer:

        @sa.event.listens_for(writer.store.engine, "before_cursor_execute")
        def _stop(connection, cursor, statement, parameters, context, executemany):
            if "INSERT" in statement:
                inserts.append(statement)
                if len(inserts) == 5:
                    place.server.stop()

        try:
            with pytest.raises(StoreUnavailableError):
                writer.write(seen(GUEST, *GOOD))
        finally:
            place.server.start()
        assert len(inserts) >= 5
        outcome = writer.write(seen(GUEST, *GOOD))
    assert [login for login, _ in found(outcome)] == [GUEST]
    assert place.addresses() == sorted(login.address for login in GOOD)
