"""A row that the database refuses to change or delete is left out, and no other is."""

import time

import pytest

from popbsmtp_wrap.errors import PopbsmtpError, RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, upsert
from popbsmtp_wrap.store.renewal import MOST, renew
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits
from tests.store.test_expiry import put_many

# What raises an error for one row: the server's own kind of error, and one that reads like a
# missing permission.
ERRORS = {
    "own": {
        "postgresql": "RAISE EXCEPTION 'sober'",
        "mysql": "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'sober'",
        "sqlite": "RAISE(ABORT, 'sober')",
    },
    "permission": {
        "postgresql": "RAISE EXCEPTION 'sober' USING ERRCODE = '42501'",
        "mysql": "SIGNAL SQLSTATE '42000' SET MYSQL_ERRNO = 1142, MESSAGE_TEXT = 'sober'",
        "sqlite": "RAISE(FAIL, 'sober')",
    },
}
errors = pytest.mark.parametrize("error", ERRORS)


def refuse(place, change, error, where=f"old.address = '{ADDRESS}'"):
    """Have the database refuse an UPDATE or DELETE of the rows of *where*."""
    raised = ERRORS[error][place.kind]
    create = f"CREATE TRIGGER refuse_{change} BEFORE {change} ON popbsmtp"
    if place.kind == "sqlite":
        place.sql(f"{create} WHEN {where} BEGIN SELECT {raised}; END")
    elif place.kind == "mysql":
        place.sql(f"{create} FOR EACH ROW IF {where} THEN {raised}; END IF")
    else:
        body = f"IF {where} THEN {raised}; END IF; IF TG_OP = 'DELETE' THEN RETURN old; END IF"
        place.sql(
            f"CREATE FUNCTION refuse_{change}() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {body}; RETURN new; END $$",
            f"{create} FOR EACH ROW EXECUTE FUNCTION refuse_{change}()",
        )


@errors
def test_renewal_leaves_out_the_row_that_is_refused(place, error):
    store = place.created()
    others = [f"203.0.113.{number}" for number in range(1, MOST)]
    for address in (ADDRESS, *others):
        place.put(address, 60)
    refuse(place, "UPDATE", error)
    done = renew(store, [ADDRESS, *others], time.monotonic(), GRACE_S)
    assert done.rows == len(others)
    [(address, why)] = done.refused.items()
    assert address == ADDRESS
    assert "sober" in why
    assert queries.remaining_s(store, others[-1], GRACE_S) > GRACE_S - 30
    assert queries.remaining_s(store, ADDRESS, GRACE_S) < GRACE_S - 30


def test_renewal_of_a_single_row_that_is_refused_says_so(place):
    store = place.created()
    place.put(ADDRESS, 60)
    refuse(place, "UPDATE", "own")
    done = renew(store, [ADDRESS], time.monotonic(), GRACE_S)
    assert (done.rows, list(done.refused)) == (0, [ADDRESS])


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_renewal_that_no_row_may_have_is_an_error(places, kind):
    place = places.new(kind)
    store = place.created()
    others = [f"203.0.113.{number}" for number in range(1, 9)]
    for address in others:
        place.put(address, 60)
    refuse(place, "UPDATE", "permission", "old.address IS NOT NULL")
    with pytest.raises(PopbsmtpError, match="sober"):
        renew(store, others, time.monotonic(), GRACE_S)


@errors
def test_expire_leaves_out_the_row_that_is_refused(place, error):
    store = place.created(answer_s=30)
    place.put(ADDRESS, 100 * GRACE_S)
    put_many(place, store.dialect.expire_batch + 20)
    refuse(place, "DELETE", error)
    with pytest.raises(RefusedError, match=rf"sober.*{ADDRESS}.*others are changed") as caught:
        removal.expire(store, GRACE_S)
    assert caught.value.exit_code == 77
    assert place.addresses() == [ADDRESS]


@errors
@pytest.mark.parametrize("all_of_them", [True, False])
def test_revoke_says_whom_the_database_refuses_and_revokes_the_others(place, error, all_of_them):
    store = place.created()
    for address in (ADDRESS, OTHER):
        upsert.record(store, Login(address, "ann", "imap"))
    refuse(place, "UPDATE", error)
    with pytest.raises(RefusedError, match=f"sober.*{ADDRESS}"):
        removal.revoke(store, None if all_of_them else [ADDRESS, OTHER])
    assert postfix_permits(store, ADDRESS)
    assert not postfix_permits(store, OTHER)
