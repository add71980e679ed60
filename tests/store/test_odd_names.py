"""Tables and columns with names that SQL or a driver could take for something else."""

import time

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, renewal, setup, upsert
from popbsmtp_wrap.store.batch import BatchWriter, Seen
from popbsmtp_wrap.store.engine import open_store
from tests.store.places import ADDRESS, GRACE_S, postfix_permits

NAMES = [
    "per%cent",
    "%s",
    "two words",
    'double"quote',
    "single'quote",
    "back`tick",
    "Upper",
    "select",
    "colon:a0",
    "par(en)",
    "back\\slash",
    "semi;colon--",
    "ümlaut",
]


# SQLAlchemy doubles a % twice in MySQL's VALUES(), and does not reflect a backtick of a column.
COLUMNS = [name for name in NAMES if "%" not in name and "`" not in name]


@pytest.mark.parametrize(
    ("what", "name"), [*(("table", n) for n in NAMES), *(("columns", n) for n in COLUMNS)]
)
def test_a_name_serves_whatever_is_in_it(place, what, name):
    names = {"table": name}
    if what == "columns":
        keys = ("address", "last_seen", "first_seen", "user", "service")
        names = {f"{key}_column": f"{name} {key[:2]}" for key in keys}
    store = place.created(**names)
    assert not setup.create(store)
    assert setup.differences(store) == []
    upsert.record(store, Login(ADDRESS, "alice", "imap"))
    resident = open_store(store.database, stay_connected=True, autocommit=True)
    writer = BatchWriter(resident)
    writer.ping()
    seen = [Seen(Login(ADDRESS, "bob", "pop3"), time.monotonic())]
    assert writer.write(seen).refused == ()
    assert writer.write_at_once(seen, 5)
    assert writer.missing([ADDRESS, "192.0.2.1"], GRACE_S) == {"192.0.2.1"}
    assert [(row.address, row.user) for row in queries.rows(store, GRACE_S)] == [(ADDRESS, "bob")]
    assert queries.remaining_s(store, ADDRESS, GRACE_S)
    assert postfix_permits(store, ADDRESS)
    assert renewal.renew(store, [ADDRESS], time.monotonic(), GRACE_S).rows == 1
    assert removal.expire(store, GRACE_S) == 0
    assert removal.revoke(store, [ADDRESS]) == 1
    writer.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_printed_script_makes_the_same_table(place, name):
    store = place.store(table=name)
    script = setup.create_sql(store)
    for statement in script.split(";\n"):
        if statement.strip():
            place.sql(statement)
    assert setup.differences(store) == []
