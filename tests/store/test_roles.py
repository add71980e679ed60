"""The accounts of sql/*/roles.sql can do their own job and nothing else."""

import os
import re
import time
from contextlib import closing
from dataclasses import replace

import pytest
import sqlalchemy as sa

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.errors import RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, setup, sqlite_files, upsert
from popbsmtp_wrap.store.batch import BatchWriter, Outcome, Seen
from popbsmtp_wrap.store.engine import open_store, transaction
from popbsmtp_wrap.store.renewal import renew
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits
from tests.store.test_table import read_sql

PASSWORD = "p@ss:w/rd"
ROLES = ("popbsmtp_writer", "popbsmtp_expirer", "popbsmtp_postfix")


@pytest.fixture
def accounts(request, places):
    """The store of each account, with one fresh and one old row in the table."""
    place = places.new(request.param)
    place.created()
    place.script(read_sql(place.kind, "roles.sql"))
    give = {
        "postgresql": "ALTER ROLE {role} PASSWORD '{password}'",
        "mysql": "ALTER USER {role}@'%' IDENTIFIED BY '{password}' ACCOUNT UNLOCK",
    }[place.kind]
    place.sql(*(give.format(role=role, password=PASSWORD) for role in ROLES))
    place.put(ADDRESS, 60)
    place.put(OTHER, 10 * GRACE_S)
    stores = {
        role.removeprefix("popbsmtp_"): open_store(
            replace(place.database, url=place.server.url(place.name, role, PASSWORD))
        )
        for role in ROLES
    }
    yield place, stores
    for role in ROLES:
        if place.kind == "postgresql":
            place.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
        else:
            place.sql(f"DROP USER '{role}'@'%'")


SERVERS = pytest.mark.parametrize("accounts", ["postgresql", "mysql"], indirect=True)


@SERVERS
def test_writer_records(accounts):
    place, stores = accounts
    for login in (Login("192.0.2.1", "ann", "imap"), Login(ADDRESS, "bob"), Login(OTHER, "bö")):
        for _ in range(2):
            upsert.record(stores["writer"], login)
        upsert.record(stores["writer"], replace(login, user="late", age_s=90))
        assert renew(stores["writer"], [login.address], time.monotonic(), GRACE_S).rows == 1
    found = {row.address: row.user for row in queries.rows(place.store(), GRACE_S)}
    assert found == {"192.0.2.1": "ann", ADDRESS: "bob", OTHER: "bö"}


@SERVERS
def test_writer_revokes_and_lists(accounts):
    place, stores = accounts
    assert removal.revoke(stores["writer"], [ADDRESS, "192.0.2.1"]) == 1
    assert removal.revoke(stores["writer"], None) == 1
    assert place.revoked() == sorted(["192.0.2.1", ADDRESS, OTHER])
    upsert.record(stores["writer"], Login(ADDRESS, "ann", "imap"))
    [row] = queries.rows(stores["writer"], GRACE_S)
    assert (row.address, row.user, row.may_relay) == (ADDRESS, "ann", True)


@SERVERS
def test_expirer_counts_and_expires(accounts):
    place, stores = accounts
    removal.revoke(stores["writer"], ["192.0.2.1"])
    assert removal.expired_count(stores["expirer"], GRACE_S) == 1
    assert removal.expire(stores["expirer"], GRACE_S) == 1
    assert place.addresses() == [ADDRESS]
    assert place.revoked() == ["192.0.2.1"]


@SERVERS
def test_postfix_looks_up(accounts):
    _, stores = accounts
    for address, permitted in ((ADDRESS, True), (OTHER, False)):
        assert postfix_permits(stores["postfix"], address) is permitted
        assert bool(queries.remaining_s(stores["postfix"], address, GRACE_S)) is permitted


EVERYBODY = {
    "drop": "DROP TABLE popbsmtp",
    "truncate": "TRUNCATE TABLE popbsmtp",
    "alter": "ALTER TABLE popbsmtp ADD COLUMN x INTEGER",
    "index": "CREATE INDEX x ON popbsmtp (service)",
    "create": "CREATE TABLE x (y INTEGER)",
}
READ = {
    "users": "SELECT username FROM popbsmtp",
    "first_seen": "SELECT first_seen FROM popbsmtp",
    "all": "SELECT * FROM popbsmtp",
}
WRITE = {
    "insert": "INSERT INTO popbsmtp (address) VALUES ('192.0.2.9')",
    "update": "UPDATE popbsmtp SET last_seen = now()",
    "user": "UPDATE popbsmtp SET username = 'x'",
    "address": "UPDATE popbsmtp SET address = 'x'",
}
DELETE = {"delete": "DELETE FROM popbsmtp"}
FORBIDDEN = {
    "writer": EVERYBODY | DELETE | {"address": WRITE["address"]},
    "expirer": EVERYBODY | READ | WRITE,
    "postfix": EVERYBODY | READ | WRITE | DELETE,
}
# MariaDB's upsert wants SELECT and UPDATE on the whole table (error 1143).
UNAVOIDABLE = {("mysql", "writer", "address")}


@SERVERS
def test_accounts_can_do_nothing_else(accounts):
    place, stores = accounts
    before = place.sql("SELECT * FROM popbsmtp ORDER BY address")
    for role, statements in FORBIDDEN.items():
        for name, statement in statements.items():
            if (place.kind, role, name) in UNAVOIDABLE:
                continue
            with (
                pytest.raises(RefusedError, match=r"roles\.sql") as refused,
                transaction(stores[role]) as connection,
            ):
                connection.execute(sa.text(statement))
            assert refused.value.exit_code == 77
            assert PASSWORD not in str(refused.value)
    assert place.sql("SELECT * FROM popbsmtp ORDER BY address") == before


@SERVERS
def test_jobs_of_others_are_refused_by_name(accounts):
    _, stores = accounts
    jobs = {
        "record": lambda store: upsert.record(store, Login(ADDRESS)),
        "expire": lambda store: removal.expire(store, GRACE_S),
        "revoke": lambda store: removal.revoke(store, [ADDRESS]),
        "list": lambda store: list(queries.rows(store, GRACE_S)),
        "init": lambda store: setup.create(replace_table(store)),
    }
    allowed = {"writer": {"record", "revoke", "list"}, "expirer": {"expire"}, "postfix": set()}
    for role, own in allowed.items():
        for name in jobs.keys() - own:
            with pytest.raises(RefusedError):
                jobs[name](stores[role])
    for role, own in allowed.items():
        for name in own:
            jobs[name](stores[role])


def replace_table(store):
    return open_store(replace(store.database, table="another"))


def test_sqlite_roles_name_the_owners_and_modes_that_init_gives():
    text = read_sql("sqlite", "roles.sql")
    assert all(line.startswith("--") for line in text.splitlines())
    owners = f"{sqlite_files.WRITER_USER}:{sqlite_files.READER_GROUP}"
    path = sqlite_files.path_of(Database())
    mode = f"{sqlite_files.DIRECTORY_MODE:o}"
    assert re.search(f"{os.path.dirname(path)} +{owners} +mode {mode}\n", text)
    assert re.search(f"{path} +{owners} +mode {sqlite_files.FILE_MODE:04o}\n", text)


def test_sqlite_files_get_these_modes_and_group(sqlite_place):
    path = sqlite_place.path.parent / "new" / "popbsmtp.db"
    database = replace(sqlite_place.database, url=f"sqlite:///{path}")
    assert len(sqlite_files.prepare(database)) == 2
    assert sqlite_files.prepare(database) == []
    assert path.parent.stat().st_mode & 0o7777 == sqlite_files.DIRECTORY_MODE
    assert path.stat().st_mode & 0o7777 == sqlite_files.FILE_MODE
    assert path.group() == path.parent.group() == sqlite_files.READER_GROUP
    store = open_store(database)
    setup.create(store)
    with store.engine.connect() as connection:
        upsert.record(store, Login(ADDRESS))
        assert connection.exec_driver_sql("SELECT count(*) FROM popbsmtp").scalar() == 1
        for beside in ("-wal", "-shm"):
            found = path.with_name(path.name + beside)
            assert found.group() == sqlite_files.READER_GROUP
            assert found.stat().st_mode & 0o7777 == sqlite_files.FILE_MODE


LIMITS = ("lock_timeout", "statement_timeout", "client_connection_check_interval")


@pytest.mark.parametrize("accounts", ["postgresql"], indirect=True)
def test_postgresql_gives_up_for_every_account_what_nobody_waits_for(accounts):
    place, stores = accounts
    for role, store in stores.items():
        with store.engine.connect() as connection:
            found = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in LIMITS]
        assert all(value not in (None, "0") for value in found), (role, found)
    # An administrator's own values stay, and nothing needs them.
    for name in LIMITS:
        place.sql(f"ALTER ROLE popbsmtp_writer SET {name} = 0")
    with closing(BatchWriter(stores["writer"])) as writer:
        assert writer.write([Seen(Login(ADDRESS, "ann"), time.monotonic())]) == Outcome()


@SERVERS
def test_writer_goes_around_a_locked_row_and_a_probe_asks_for_its_permissions(accounts):
    place, stores = accounts
    batch = [Seen(Login(address, "ann"), time.monotonic()) for address in (ADDRESS, "192.0.2.1")]
    with closing(BatchWriter(stores["writer"])) as writer, closing(place.session()) as other:
        writer.ping()
        other.cursor().execute(f"UPDATE popbsmtp SET username = 'x' WHERE address = '{ADDRESS}'")
        outcome = writer.write(batch)
        assert [locked.seen.login.address for locked in outcome.locked] == [ADDRESS]
        assert "192.0.2.1" in place.addresses()
        other.rollback()
        assert writer.write(batch) == Outcome()
    for role in ("expirer", "postfix"):
        with closing(BatchWriter(stores[role])) as writer, pytest.raises(RefusedError):
            writer.ping()
