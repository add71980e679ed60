"""Rows that the database keeps as they are without an error: expire and revoke end, and say so."""

import time

import pytest

from popbsmtp_wrap.errors import RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import removal, upsert
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits
from tests.store.test_expiry import put_many

# Keep the rows of WHERE from DELETE and UPDATE.
KEEPING = {
    "postgresql": [
        """CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {where} THEN RETURN NULL; END IF;
            IF TG_OP = 'UPDATE' THEN RETURN new; END IF;
            RETURN old;
        END $$""",
        """CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON popbsmtp
        FOR EACH ROW EXECUTE FUNCTION keep()""",
    ],
    "sqlite": [
        f"""CREATE TRIGGER keep_{change} BEFORE {change} ON popbsmtp WHEN {{where}}
        BEGIN SELECT RAISE(IGNORE); END"""
        for change in ("DELETE", "UPDATE")
    ],
    # It has no way to leave out a row; a trigger can put back what was.
    "mysql": [
        """CREATE TRIGGER keep BEFORE UPDATE ON popbsmtp FOR EACH ROW
        IF {where} THEN SET new.last_seen = old.last_seen; END IF"""
    ],
}
NO_DELETE = pytest.mark.parametrize("kind", ["postgresql", "sqlite"])


def keep(place, where="old.address IS NOT NULL"):
    place.sql(*(statement.format(where=where) for statement in KEEPING[place.kind]))


@NO_DELETE
def test_expire_that_deletes_nothing_ends(places, kind):
    place = places.new(kind)
    store = place.created(answer_s=30)
    put_many(place, 1500)
    keep(place)
    began = time.monotonic()
    with pytest.raises(RefusedError, match="trigger, rule or row-level security") as caught:
        removal.expire(store, GRACE_S)
    assert caught.value.exit_code == 77
    assert time.monotonic() - began < 60
    assert len(place.addresses()) == 1500


def test_revoke_of_all_that_changes_nothing_ends(place):
    store = place.created(answer_s=30)
    put_many(place, 1500, seconds_ago=60)
    keep(place)
    with pytest.raises(RefusedError, match="trigger, rule or row-level security"):
        removal.revoke(store, None)
    assert len(place.addresses()) == 1500


@NO_DELETE
@pytest.mark.parametrize("more", [0, 1])
def test_one_kept_row_keeps_no_other(places, kind, more):
    place = places.new(kind)
    store = place.created(answer_s=30)
    place.put(ADDRESS, 100 * GRACE_S)
    put_many(place, more * store.dialect.expire_batch + 20)
    keep(place, f"old.address = '{ADDRESS}'")
    with pytest.raises(RefusedError, match=rf"a row .*{ADDRESS}.* others are changed"):
        removal.expire(store, GRACE_S)
    assert place.addresses() == [ADDRESS]


def test_revoke_says_when_an_address_still_relays_and_revokes_the_others(place):
    store = place.created()
    for address in (ADDRESS, OTHER):
        upsert.record(store, Login(address, "ann", "imap"))
    keep(place, f"old.address = '{ADDRESS}'")
    with pytest.raises(RefusedError, match=f"{ADDRESS}.*may still relay"):
        removal.revoke(store, [ADDRESS, OTHER])
    assert postfix_permits(store, ADDRESS)
    assert not postfix_permits(store, OTHER)
    with pytest.raises(RefusedError):
        removal.revoke(store, None)
    assert postfix_permits(store, ADDRESS)


def test_rows_that_a_trigger_puts_back_end_expire(sqlite_place):
    store = sqlite_place.created(answer_s=30)
    put_many(sqlite_place, 450)
    sqlite_place.sql(
        "CREATE TRIGGER back AFTER DELETE ON popbsmtp BEGIN INSERT INTO popbsmtp"
        " (address, last_seen) VALUES (old.address, old.last_seen); END"
    )
    with pytest.raises(RefusedError):
        removal.expire(store, GRACE_S)
    assert len(sqlite_place.addresses()) == 450


def test_policy_that_lets_rows_only_be_read_ends_expire_and_revoke(postgres_place):
    place = postgres_place
    place.created()
    put_many(place, 1500)
    put_many(place, 1500, seconds_ago=60, prefix="192")
    role = f"reader_{place.name}"
    place.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON popbsmtp TO {role}",
        "ALTER TABLE popbsmtp ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY seen ON popbsmtp FOR SELECT USING (true)",
    )
    url = f"postgresql://{role}:x@127.0.0.1:{place.server.port}/{place.name}"
    store = place.store(answer_s=30, url=url)
    for work in (
        lambda: removal.expire(store, GRACE_S),
        lambda: removal.revoke(store, None),
        lambda: removal.revoke(store, ["192.0.0.1"]),
    ):
        with pytest.raises(RefusedError):
            work()
    assert len(place.addresses()) == 3000


def test_expire_deletes_rows_without_an_address_beside_live_ones(place):
    store = table_with_null_addresses(place)
    put_many(place, store.dialect.expire_batch + 50)
    put_many(place, 20, seconds_ago=60, prefix="192")
    nulls(place, GRACE_S + 60, 300)
    nulls(place, 60, 3)
    expired = store.dialect.expire_batch + 350
    assert removal.expired_count(store, GRACE_S) == expired
    assert removal.expire(store, GRACE_S) == expired
    assert removal.expire(store, GRACE_S) == 0
    assert place.sql("SELECT count(*), count(address) FROM popbsmtp") == [(23, 20)]


def test_expire_deletes_rows_without_an_address_alone(place):
    store = table_with_null_addresses(place)
    nulls(place, GRACE_S + 60, store.dialect.expire_batch + 50)
    assert removal.expire(store, GRACE_S) == store.dialect.expire_batch + 50
    assert place.sql("SELECT count(*) FROM popbsmtp") == [(0,)]


def test_revoke_of_all_revokes_beside_rows_without_an_address(place):
    store = table_with_null_addresses(place)
    put_many(place, 20, seconds_ago=60, prefix="192")
    nulls(place, 60, 3)
    assert removal.revoke(store, None) == 20
    assert len(place.revoked()) == 20
    assert place.sql("SELECT count(*) FROM popbsmtp WHERE address IS NULL") == [(3,)]


@NO_DELETE
def test_kept_rows_without_an_address_end_expire(places, kind):
    place = places.new(kind)
    store = table_with_null_addresses(place)
    put_many(place, 20)
    nulls(place, GRACE_S + 60, 3)
    keep(place, "old.address IS NULL")
    with pytest.raises(RefusedError, match="NULL"):
        removal.expire(store, GRACE_S)
    assert place.sql("SELECT count(*) FROM popbsmtp") == [(3,)]


def table_with_null_addresses(place):
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[place.kind]
    key = "PRIMARY KEY" if place.kind == "sqlite" else "NULL UNIQUE"
    place.sql(
        f"CREATE TABLE popbsmtp (address varchar(45) {key}, last_seen {time_type} NOT NULL)",
        "CREATE INDEX seen ON popbsmtp (last_seen)",
    )
    return place.store(answer_s=30, first_seen_column="", user_column="", service_column="")


def nulls(place, seconds_ago, count):
    moments = ", ".join([f"(NULL, {place.moment(seconds_ago)})"] * count)
    place.sql(f"INSERT INTO popbsmtp (address, last_seen) VALUES {moments}")
