"""Tables that take no login or no renewal: init names the cause."""

import time

import pytest

from popbsmtp_wrap.errors import RefusedError, SchemaError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, setup, upsert
from popbsmtp_wrap.store.batch import BatchWriter, Seen
from popbsmtp_wrap.store.renewal import renew
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits
from tests.store.test_adoption import printed_sql, run_by_client


def serious(store):
    return [found for found in setup.differences(store) if not found.harmless]


def test_inet_takes_logins_renewals_and_revocations(postgres_place):
    store = postgres_place.created()
    postgres_place.sql("ALTER TABLE popbsmtp ALTER address TYPE inet USING address::inet")
    assert setup.differences(store) == []
    addresses = [ADDRESS, OTHER, "10.0.0.1", "10.0.0.10"]
    writer, now = BatchWriter(store), time.monotonic()
    outcome = writer.write([Seen(Login(a, "ann", "imap", 600), now) for a in addresses])
    writer.close()
    assert (outcome.refused, outcome.locked) == ((), ())
    assert renew(store, sorted(addresses), time.monotonic(), GRACE_S).rows == 4
    assert queries.remaining_s(store, OTHER, GRACE_S) > GRACE_S - 60
    assert postfix_permits(store, ADDRESS)
    assert removal.revoke(store, [ADDRESS]) == 1
    assert removal.revoke(store, None) == 3
    assert not postfix_permits(store, OTHER)
    postgres_place.put("192.0.2.9", GRACE_S + 60)
    assert removal.expire(store, GRACE_S) == 1


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE popbsmtp ADD PRIMARY KEY (address) DEFERRABLE",
        "CREATE UNIQUE INDEX few ON popbsmtp (address) WHERE username IS NOT NULL",
    ],
    ids=["deferrable", "partial"],
)
def test_key_that_no_upsert_can_use_is_named_and_changed(postgres_place, change):
    store = postgres_place.created()
    postgres_place.sql("ALTER TABLE popbsmtp DROP CONSTRAINT popbsmtp_pkey", change)
    with pytest.raises(SchemaError, match="run: popbsmtp init"):
        upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert serious(store)
    run_by_client(postgres_place, printed_sql(store))
    assert serious(store) == []
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert postfix_permits(store, ADDRESS)


def test_generated_column_is_named(place):
    store = place.created()
    kind = "VIRTUAL" if place.kind == "sqlite" else "STORED"
    place.sql(
        "ALTER TABLE popbsmtp DROP COLUMN service",
        f"ALTER TABLE popbsmtp ADD service varchar(20) GENERATED ALWAYS AS ('x') {kind}",
    )
    what = " ".join(found.what for found in serious(store))
    assert "popbsmtp.service is a generated column" in what
    with pytest.raises(SchemaError, match="run: popbsmtp init"):
        upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert serious(place.store(service_column="")) == []
    upsert.record(place.store(service_column=""), Login(ADDRESS, "ann"))
    assert postfix_permits(store, ADDRESS)


def test_expired_password_is_a_refusal(mysql_place):
    mysql_place.created()
    user = f"late_{mysql_place.name}"
    mysql_place.sql(
        f"CREATE USER {user}@'%' IDENTIFIED BY 'x' PASSWORD EXPIRE",
        f"GRANT ALL ON {mysql_place.name}.* TO {user}@'%'",
    )
    url = f"mysql://{user}:x@127.0.0.1:{mysql_place.server.port}/{mysql_place.name}"
    store = mysql_place.store(url=f"{url}?ssl_disabled=true")
    with pytest.raises(RefusedError, match="password"):
        upsert.record(store, Login(ADDRESS))
