"""Rules that refuse nobody's address as well: other logins tell whose trouble it is."""

from contextlib import closing
from dataclasses import replace

import pytest

from popbsmtp_wrap.errors import PopbsmtpError, RefusedError, SchemaError, StoreUnavailableError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.batch import BatchWriter, Outcome
from popbsmtp_wrap.store.engine import open_store
from tests.store.test_refused_rows import resident, seen, trigger

OURS = [Login(f"10.0.0.{number}", "ann", "imap") for number in range(1, 20)]
THEIRS = Login("198.51.100.1", "guest", "imap")
ELSEWHERE = "new.address NOT LIKE '10.%'"


def own_code(place):
    """An error that nobody has reserved."""
    actions = {
        "postgresql": "RAISE EXCEPTION 'not ours' USING ERRCODE = 'U0815'",
        "mysql": "SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = 30815, MESSAGE_TEXT = 'not ours'",
        # SQLITE_ERROR, as of a statement that is wrong.
        "sqlite": "json_extract('not ours', '$.x')",
    }
    place.sql(*trigger(place.kind, ELSEWHERE, actions))
    return place.database


def overflow(place):
    """An error of a value, where the database knows one."""
    actions = {
        "postgresql": "PERFORM 1 / 0",
        "mysql": "SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1690, MESSAGE_TEXT = 'overflow'",
        "sqlite": "abs(-9223372036854775808)",
    }
    place.sql(*trigger(place.kind, ELSEWHERE, actions))
    return place.database


def known_users(place):
    """A trigger looks the user up where this account may not."""
    place.sql("CREATE TABLE users (name varchar(20))", "INSERT INTO users VALUES ('ann')")
    unknown = "new.username NOT IN (SELECT name FROM users)"
    actions = {
        "postgresql": "RAISE EXCEPTION 'unknown' USING ERRCODE = '42501'",
        "mysql": "SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1142, MESSAGE_TEXT = 'unknown'",
        "sqlite": "json_extract('unknown', '$.x')",
    }
    place.sql(*trigger(place.kind, unknown, actions))
    return place.database


def partitions(place):
    """Row-level security, and a partition that is missing."""
    if place.kind == "sqlite":
        return own_code(place)
    if place.kind == "mysql":
        place.sql(
            "ALTER TABLE popbsmtp PARTITION BY LIST COLUMNS (address)"
            f" (PARTITION ours VALUES IN ({', '.join(repr(login.address) for login in OURS)}))"
        )
        return place.database
    role = f"limited_{place.name}"
    place.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"GRANT SELECT, INSERT, UPDATE ON popbsmtp TO {role}",
        "ALTER TABLE popbsmtp ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY ours ON popbsmtp USING (true) WITH CHECK (address LIKE '10.%')",
    )
    return replace(place.database, url=place.server.url(place.name, role, "secret"))


RULES = {rule.__name__: rule for rule in (own_code, overflow, known_users, partitions)}


@pytest.fixture(params=RULES)
def writer(request, place):
    """A writer of an account that may not write everything."""
    place.created()
    database = RULES[request.param](place)
    with closing(writer_of(database)) as writer:
        yield writer


def writer_of(database, autocommit=True):
    return BatchWriter(open_store(database, 20, stay_connected=True, autocommit=autocommit))


def refused(outcome):
    assert outcome.locked == ()
    return [refused.seen.login for refused in outcome.refused]


@pytest.mark.parametrize("count", [1, 19])
def test_a_refused_login_costs_nobody_else_of_its_batch(place, writer, count):
    others = OURS[:count]
    assert refused(writer.write(seen(*others[: count // 2], THEIRS, *others[count // 2 :]))) == [
        THEIRS
    ]
    assert place.addresses() == sorted(login.address for login in others)


def test_a_refused_login_is_known_by_the_last_one_that_was_taken(place, writer):
    assert writer.write(seen(OURS[0])) == Outcome()
    assert refused(writer.write(seen(THEIRS))) == [THEIRS]
    # By that of another process, too.
    with closing(writer_of(writer.store.database)) as another:
        assert refused(another.write(seen(THEIRS))) == [THEIRS]
    assert place.addresses() == [OURS[0].address]


def test_without_any_other_login_it_is_in_doubt_and_the_next_one_decides(place, writer):
    try:
        # PostgreSQL's overflow is of the value and nothing else.
        assert refused(writer.write(seen(THEIRS))) == [THEIRS]
    except PopbsmtpError as error:
        assert error.in_doubt
        # Nothing shows that the database takes anything.
        with pytest.raises(type(error)):
            writer.ping()
    assert writer.write(seen(OURS[0])) == Outcome()
    writer.ping()
    assert refused(writer.write(seen(THEIRS))) == [THEIRS]


def test_without_autocommit_it_is_the_same(place):
    place.created()
    with closing(writer_of(own_code(place), autocommit=False)) as writer:
        assert refused(writer.write(seen(*OURS, THEIRS))) == [THEIRS]
        assert refused(writer.write(seen(THEIRS))) == [THEIRS]
    assert place.addresses() == sorted(login.address for login in OURS)


def test_the_login_that_is_tried_is_not_written(place):
    place.created()
    own_code(place)
    with closing(resident(place)) as writer:
        assert writer.write(seen(OURS[0])) == Outcome()
        place.sql("DELETE FROM popbsmtp")
        assert refused(writer.write(seen(THEIRS))) == [THEIRS]
    assert place.addresses() == []


def test_a_table_that_is_gone_after_some_logins_refuses_nobody(place):
    place.created()
    with closing(resident(place)) as writer:
        assert writer.write(seen(*OURS)) == Outcome()
        place.sql("ALTER TABLE popbsmtp RENAME TO away")
        for batch in (seen(THEIRS), seen(THEIRS, *OURS)):
            with pytest.raises(SchemaError) as raised:
                writer.write(batch)
            assert not raised.value.in_doubt
        with pytest.raises(SchemaError):
            writer.ping()
        place.sql("ALTER TABLE away RENAME TO popbsmtp")
        writer.ping()


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_a_permission_that_is_gone_after_some_logins_refuses_nobody(places, kind):
    place = places.new(kind)
    place.created()
    user = f"w{place.name}"
    role, host = (user, "") if kind == "postgresql" else (user, "@'%'")
    login = "LOGIN PASSWORD" if kind == "postgresql" else "IDENTIFIED BY"
    create = "ROLE" if kind == "postgresql" else "USER"
    place.sql(
        f"CREATE {create} {role}{host} {login} 'secret'",
        f"GRANT SELECT, INSERT, UPDATE ON popbsmtp TO {role}{host}",
    )
    database = replace(place.database, url=place.server.url(place.name, user, "secret"))
    with closing(writer_of(database)) as writer:
        assert writer.write(seen(*OURS)) == Outcome()
        place.sql(f"REVOKE INSERT ON popbsmtp FROM {role}{host}")
        for batch in (seen(THEIRS), seen(THEIRS, *OURS)):
            with pytest.raises(RefusedError):
                writer.write(batch)
        place.sql(f"GRANT INSERT ON popbsmtp TO {role}{host}")
        assert writer.write(seen(THEIRS, *OURS)) == Outcome()


@pytest.mark.parametrize("size", [1, 40])
def test_a_trigger_that_fails_for_everybody_is_an_outage_until_it_is_gone(place, size):
    place.created()
    batch = seen(*(Login(f"10.1.0.{number}", "bob", "imap") for number in range(size)))
    with closing(resident(place)) as writer:
        assert writer.write(seen(*OURS)) == Outcome()
        actions = {
            "postgresql": "INSERT INTO nowhere VALUES (1)",
            "mysql": "INSERT INTO nowhere VALUES (1)",
            "sqlite": "json_extract('x', '$.x')",
        }
        place.sql(*trigger(place.kind, "true" if place.kind != "sqlite" else "1", actions))
        error = StoreUnavailableError if place.kind == "sqlite" else SchemaError
        with pytest.raises(error) as raised:
            writer.write(batch)
        assert raised.value.in_doubt
        with pytest.raises(error):
            writer.ping()
        place.sql("DROP TRIGGER refuse" + (" ON popbsmtp" if place.kind == "postgresql" else ""))
        writer.ping()
        assert writer.write(batch) == Outcome()
    assert len(place.addresses()) == len(OURS) + size
