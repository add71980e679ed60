"""A char(n) column pads its addresses with blanks; nobody notices."""

from contextlib import closing

import pytest

from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.batch import Outcome
from tests.store.places import GRACE_S
from tests.store.test_refused_rows import GOOD, resident, seen

BATCH = GOOD[:5]
ADDRESSES = [login.address for login in BATCH]


@pytest.fixture(params=["postgresql", "mysql"])
def place(request, places):
    place = places.new(request.param)
    place.created()
    place.sql(
        "ALTER TABLE popbsmtp "
        + {
            "postgresql": "ALTER address TYPE char(45)",
            "mysql": "MODIFY address char(45) CHARACTER SET ascii NOT NULL",
        }[place.kind]
    )
    return place


def test_a_locked_row_is_named_and_the_others_are_written(place):
    with closing(resident(place)) as writer:
        assert writer.write(seen(*BATCH)) == Outcome()
        with closing(place.session()) as other:
            other.cursor().execute(
                f"UPDATE popbsmtp SET username = 'x' WHERE address = '{ADDRESSES[0]}'"
            )
            assert writer.held(ADDRESSES) == {ADDRESSES[0]}
            outcome = writer.write(seen(*BATCH))
            other.rollback()
    assert [locked.seen.login for locked in outcome.locked] == BATCH[:1]
    assert outcome.refused == ()


def test_rows_that_are_there_are_not_missing(place):
    with closing(resident(place)) as writer:
        assert writer.write(seen(*BATCH)) == Outcome()
        assert writer.missing([*ADDRESSES, "10.0.0.1"], GRACE_S) == {"10.0.0.1"}


def test_addresses_are_listed_and_revoked_as_they_were_written(place):
    store = place.store()
    for login in BATCH:
        upsert.record(store, login)
    assert sorted(row.address for row in queries.rows(store, GRACE_S)) == ADDRESSES
    assert [row.address for row in queries.rows(store, GRACE_S, ADDRESSES[0])] == ADDRESSES[:1]
    assert removal.revoke(store, ADDRESSES[:1]) == 1
    assert queries.remaining_s(store, ADDRESSES[0], GRACE_S) is None
    assert removal.revoke(store, None) == len(ADDRESSES) - 1
