"""A row that the table drops without an error is a refused login, not a recorded one."""

from contextlib import closing
from dataclasses import replace

import pytest

from popbsmtp_wrap.errors import RowRefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.batch import Outcome
from tests.store.places import ADDRESS
from tests.store.test_refused_rows import GOOD, GUEST, NO_GUEST, resident, seen, trigger

DROP = {"postgresql": "RETURN NULL", "sqlite": "RAISE(IGNORE)"}


def on_insert(place):
    return trigger(place.kind, NO_GUEST, DROP)


def on_update(place):
    return [
        s.replace("BEFORE INSERT", "BEFORE UPDATE") for s in trigger(place.kind, NO_GUEST, DROP)
    ]


def rule(place):
    """PostgreSQL's other way."""
    if place.kind == "sqlite":
        return on_insert(place)
    return [f"CREATE RULE sober AS ON INSERT TO popbsmtp WHERE {NO_GUEST} DO INSTEAD NOTHING"]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, places):
    return places.new(request.param)


@pytest.mark.parametrize("way", [on_insert, on_update, rule])
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_row_that_is_dropped_is_refused_alone(place, way, autocommit):
    place.created()
    if way is on_update:
        place.put(ADDRESS, 3000)
    place.sql(*way(place))
    with closing(resident(place, autocommit)) as writer:
        for others in ([], GOOD[:1], GOOD):
            outcome = writer.write(seen(*others[:5], GUEST, *others[5:]))
            assert [refused.seen.login for refused in outcome.refused] == [GUEST]
            assert "does not keep" in outcome.refused[0].reason
        assert writer.write(seen(*GOOD)) == Outcome()
        assert set(place.addresses()) - {ADDRESS} == {login.address for login in GOOD}
        assert not queries.remaining_s(writer.store, ADDRESS, 1800)


@pytest.mark.parametrize("way", [on_insert, on_update, rule])
def test_record_and_write_at_once_say_so(place, way):
    store = place.created()
    if way is on_update:
        place.put(ADDRESS, 3000)
    place.sql(*way(place))
    with pytest.raises(RowRefusedError, match="does not keep"):
        upsert.record(store, GUEST)
    with closing(resident(place)) as writer:
        writer.ping()
        assert not writer.write_at_once(seen(GUEST), 5)
        assert not writer.write_at_once(seen(GUEST, GOOD[0]), 5)
        assert writer.write_at_once(seen(*GOOD[:3]), 5)
    assert not queries.remaining_s(store, ADDRESS, 1800)


def test_a_login_that_changes_nothing_is_recorded(place):
    store = place.created()
    upsert.record(store, GUEST)
    late = replace(GUEST, age_s=600)
    upsert.record(store, late)
    removal.revoke(store, [GOOD[0].address])
    revoked = replace(GOOD[0], age_s=600)
    upsert.record(store, revoked)
    with closing(resident(place)) as writer:
        writer.ping()
        for batch in ([late], [revoked], [late, revoked, GOOD[1]]):
            assert writer.write(seen(*batch)) == Outcome()
            assert writer.write_at_once(seen(*batch), 5)


def test_a_trigger_may_put_rows_into_partitions(postgres_place):
    """As it was done before PostgreSQL 10."""
    place = postgres_place
    store = place.created()
    place.sql(
        "CREATE TABLE part (PRIMARY KEY (address)) INHERITS (popbsmtp)",
        "CREATE FUNCTION part() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " DELETE FROM part WHERE address = new.address; INSERT INTO part SELECT new.*;"
        " RETURN NULL; END $$",
        "CREATE TRIGGER part BEFORE INSERT ON popbsmtp FOR EACH ROW EXECUTE FUNCTION part()",
    )
    upsert.record(store, Login(ADDRESS, "ann"))
    with closing(resident(place)) as writer:
        assert writer.write(seen(GUEST, *GOOD[:3])) == Outcome()
    assert place.addresses() == sorted([ADDRESS, *(login.address for login in GOOD[:3])])
