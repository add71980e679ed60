"""Tables of the old wiki's scripts: init says what to change, and its SQL does just that."""

import contextlib
import subprocess
import sys

import pytest

from popbsmtp_wrap.errors import RowRefusedError, SchemaError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, setup, upsert
from tests.store.places import ADDRESS, GRACE_S, OTHER, postfix_permits

OLD = "192.0.2.99"
NAMES = {
    "mysql": {},
    "postgresql": {
        "table": "auth",
        "address_column": "host",
        "last_seen_column": "accessed",
    },
    "sqlite": {},
}
LEFT_OUT = {"first_seen_column": "", "user_column": "", "service_column": ""}
WIKI = {
    "mysql": "CREATE TABLE popbsmtp (address varchar(39) PRIMARY KEY, last_seen datetime)",
    "postgresql": "CREATE TABLE auth (host text PRIMARY KEY, accessed timestamp)",
    "sqlite": "CREATE TABLE popbsmtp (address TEXT PRIMARY KEY, last_seen DATETIME)",
}
# What the old scripts did, by their own clocks and zones.
WRITE = {
    "mysql": "REPLACE INTO popbsmtp VALUES ('{}', NOW() - INTERVAL {} SECOND)",
    "postgresql": "INSERT INTO auth VALUES ('{}', now() - interval '{} seconds')",
    "sqlite": "REPLACE INTO popbsmtp VALUES ('{}', datetime('now', '-{} seconds'))",
}
NULLS = {
    "mysql": "INSERT INTO popbsmtp VALUES ('10.9.9.9', NULL)",
    "postgresql": "INSERT INTO auth VALUES ('10.9.9.9', NULL)",
    "sqlite": "INSERT INTO popbsmtp"
    " VALUES ('10.9.9.9', NULL), (NULL, datetime('now')), (NULL, NULL)",
}


def old_table(place, columns):
    """Return the store for an old table with a fresh row, an aged one and NULLs."""
    place.sql(WIKI[place.kind])
    write = WRITE[place.kind]
    place.sql(write.format(ADDRESS, 100), write.format(OLD, GRACE_S + 100), NULLS[place.kind])
    return place.store(**NAMES[place.kind], **columns)


def printed_sql(store):
    return "".join(f"{found.sql.rstrip(';')};\n" for found in setup.differences(store) if found.sql)


def run_by_client(place, script):
    """Run *script* with the database's own client, as its administrator would."""
    if place.kind == "sqlite":
        command = ["sqlite3", "-bail", str(place.path)]
    elif place.kind == "postgresql":
        server = place.server
        where = f"host={server.socket_dir} port={server.port} user={server.superuser}"
        command = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", f"{where} dbname={place.name}"]
    else:
        server = place.server
        command = ["mariadb", "--no-defaults", "--protocol=TCP", f"--host={server.host}"]
        command += [f"--port={server.port}", f"--user={server.superuser}"]
        command += [f"--password={server.password}", place.name]
    done = subprocess.run(command, input=script, text=True, capture_output=True, timeout=30)
    assert done.returncode == 0, done.stderr + script


@contextlib.contextmanager
def server_in_zone(place, hours_east):
    """The zone that old scripts and administrators get without asking."""
    if place.kind == "mysql":
        before = place.sql("SELECT @@GLOBAL.time_zone")[0][0]
        place.server.sql(f"SET GLOBAL time_zone = '{hours_east:+03d}:00'")
        try:
            yield
        finally:
            place.server.sql(f"SET GLOBAL time_zone = '{before}'")
    else:
        if place.kind == "postgresql":
            # POSIX counts to the west.
            place.sql(f"ALTER DATABASE {place.name} SET timezone = 'Etc/GMT{-hours_east:+d}'")
        yield


@pytest.mark.parametrize("columns", [LEFT_OUT, {}], ids=["as-it-is", "with-new-columns"])
@pytest.mark.parametrize("hours_east", [0, 9, -7])
def test_printed_sql_makes_an_old_table_right_and_keeps_its_moments(place, columns, hours_east):
    with server_in_zone(place, hours_east):
        store = old_table(place, columns)
        assert not setup.create(store)
        found = setup.differences(store)
        assert any("another moment in each time zone" in difference.what for difference in found)
        run_by_client(place, printed_sql(store))
        store = place.store(**NAMES[place.kind], **columns)
        assert setup.differences(store) == []
        assert not setup.create(store)
        left_s = queries.remaining_s(store, ADDRESS, GRACE_S)
        assert GRACE_S - 130 < left_s <= GRACE_S - 100
        rows = {row.address: row for row in queries.rows(store, GRACE_S)}
        assert rows.keys() == {ADDRESS, OLD}
        assert -130 < rows[OLD].remaining_s <= -100
        assert postfix_permits(store, ADDRESS)
        assert postfix_permits(store, ADDRESS, place.session_in_zone(11))
        assert not postfix_permits(store, OLD)
        assert not postfix_permits(store, "10.9.9.9")
        for _ in range(2):
            upsert.record(store, Login(OLD, "ann", "imap"))
            upsert.record(store, Login(OTHER, "ann", "imap"))
        assert queries.remaining_s(store, OLD, GRACE_S) > GRACE_S - 20
        assert removal.expire(store, GRACE_S) == 0
        assert removal.expire(store, 50) == 1


def test_printed_sql_means_the_same_in_any_session(place):
    with server_in_zone(place, 5):
        store = old_table(place, LEFT_OUT)
        script = printed_sql(store)
        with contextlib.closing(place.session_in_zone(-3)) as session:
            for statement in script.split(";\n"):
                if statement.strip():
                    session.cursor().execute(statement)
            session.commit()
        store = place.store(**NAMES[place.kind], **LEFT_OUT)
        left_s = queries.remaining_s(store, ADDRESS, GRACE_S)
        assert GRACE_S - 130 < left_s <= GRACE_S - 100


def test_old_scripts_go_on_working_after_the_change(place):
    store = old_table(place, LEFT_OUT)
    run_by_client(place, printed_sql(store))
    store = place.store(**NAMES[place.kind], **LEFT_OUT)
    if place.kind == "sqlite":
        # Its script wrote text; a number is what has to be written now.
        place.sql("REPLACE INTO popbsmtp VALUES ('10.1.1.1', strftime('%s', 'now'))")
    else:
        place.sql(WRITE[place.kind].format("10.1.1.1", 0))
    assert postfix_permits(store, "10.1.1.1")


RIGHT_TYPES = {
    "mysql": "CREATE TABLE popbsmtp (address varchar(39) PRIMARY KEY, last_seen timestamp NULL)",
    "postgresql": "CREATE TABLE auth (host text PRIMARY KEY, accessed timestamptz)",
    "sqlite": "CREATE TABLE popbsmtp (address TEXT PRIMARY KEY, last_seen INTEGER)",
}


def test_table_with_the_right_types_works_with_settings_alone(place):
    place.sql(RIGHT_TYPES[place.kind], NULLS[place.kind].replace("datetime('now')", "NULL"))
    store = place.store(**NAMES[place.kind], **LEFT_OUT)
    for _ in range(2):
        upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert queries.remaining_s(store, "10.9.9.9", GRACE_S) is None
    assert not postfix_permits(store, "10.9.9.9")
    assert [row.address for row in queries.rows(store, GRACE_S)] == [ADDRESS]
    assert removal.expire(store, GRACE_S) == 0
    upsert.record(store, Login("10.9.9.9"))
    assert postfix_permits(store, "10.9.9.9")
    [missing] = setup.differences(store)
    assert "has no index" in missing.what
    run_by_client(place, printed_sql(store))
    assert setup.differences(store) == []


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_other_columns_and_rows_of_an_old_table_survive(places, kind):
    place = places.new(kind)
    place.sql(WIKI[place.kind])
    table = NAMES[place.kind].get("table", "popbsmtp")
    place.sql(f"ALTER TABLE {table} ADD COLUMN note varchar(20)")
    values = {"mysql": "NOW()", "postgresql": "now()"}[place.kind]
    place.sql(f"INSERT INTO {table} VALUES ('{ADDRESS}', {values}, 'keep')")
    store = place.store(**NAMES[place.kind], **LEFT_OUT)
    run_by_client(place, printed_sql(store))
    upsert.record(store, Login(ADDRESS))
    assert place.sql(f"SELECT note FROM {table}") == [("keep",)]


def test_sqlite_keeps_the_old_table_beside_the_new(sqlite_place):
    store = old_table(sqlite_place, {})
    run_by_client(sqlite_place, printed_sql(store))
    assert len(sqlite_place.sql("SELECT * FROM popbsmtp_old")) == 5


def test_short_address_column_and_missing_key_are_named(place):
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[place.kind]
    place.sql(
        f"CREATE TABLE popbsmtp (address varchar(15) NOT NULL, last_seen {time_type} NOT NULL)"
    )
    place.sql("CREATE INDEX seen ON popbsmtp (last_seen)")
    place.put(ADDRESS, 5)
    store = place.store(**LEFT_OUT)
    found = " / ".join(difference.what for difference in setup.differences(store))
    assert "too short for IPv6 (15)" in found
    assert "is no primary key" in found
    if place.kind != "mysql":
        # MySQL inserts a second row instead, and says nothing.
        with pytest.raises(SchemaError):
            upsert.record(store, Login(ADDRESS))
    run_by_client(place, printed_sql(store))
    store = place.store(**LEFT_OUT)
    assert setup.differences(store) == []
    upsert.record(store, Login("2001:db8:1111:2222:3333:4444:5555:6666"))
    assert postfix_permits(store, "2001:db8:1111:2222:3333:4444:5555:6666")
    assert postfix_permits(store, ADDRESS)


@pytest.mark.parametrize("seconds", ["int unsigned", "bigint"])
def test_unix_seconds_of_an_old_mysql_table_become_times(mysql_place, seconds):
    mysql_place.sql(
        f"CREATE TABLE popbsmtp (address varchar(39) PRIMARY KEY, last_seen {seconds})",
        f"INSERT INTO popbsmtp VALUES ('{ADDRESS}', UNIX_TIMESTAMP() - 100), ('10.9.9.9', NULL)",
    )
    store = mysql_place.store(**LEFT_OUT)
    run_by_client(mysql_place, printed_sql(store))
    assert setup.differences(store) == []
    assert GRACE_S - 130 < queries.remaining_s(store, ADDRESS, GRACE_S) <= GRACE_S - 100


def test_unix_seconds_of_an_old_postgresql_table_become_times(postgres_place):
    postgres_place.sql(
        "CREATE TABLE popbsmtp (address text PRIMARY KEY, last_seen integer DEFAULT 0)",
        f"INSERT INTO popbsmtp VALUES ('{ADDRESS}', extract(epoch FROM now())::integer - 100)",
    )
    store = postgres_place.store(**LEFT_OUT)
    run_by_client(postgres_place, printed_sql(store))
    assert setup.differences(store) == []
    assert GRACE_S - 130 < queries.remaining_s(store, ADDRESS, GRACE_S) <= GRACE_S - 100


def test_endless_times_of_an_old_table_open_nothing(postgres_place, mysql_place):
    postgres_place.sql(
        WIKI["postgresql"],
        f"INSERT INTO auth VALUES ('{ADDRESS}', 'infinity'), ('{OTHER}', '-infinity')",
    )
    mysql_place.sql(
        WIKI["mysql"],
        f"INSERT INTO popbsmtp VALUES ('{ADDRESS}', '9999-12-31 23:59:59'),"
        f" ('{OTHER}', '1969-12-31 00:00:00'), ('{OLD}', NOW())",
    )
    for place in (postgres_place, mysql_place):
        store = place.store(**NAMES[place.kind], **LEFT_OUT)
        run_by_client(place, printed_sql(store))
        assert setup.differences(store) == []
        assert not postfix_permits(store, ADDRESS)
        assert not postfix_permits(store, OTHER)
        assert ADDRESS not in [row.address for row in queries.rows(store, GRACE_S)]
        removal.expire(store, GRACE_S)
        upsert.record(store, Login(ADDRESS))
        assert postfix_permits(store, ADDRESS)


def test_first_seen_that_changes_at_every_update_is_named(mysql_place):
    mysql_place.sql(
        "CREATE TABLE popbsmtp (address varchar(39) PRIMARY KEY,"
        " last_seen timestamp NOT NULL DEFAULT current_timestamp, INDEX (last_seen),"
        " first_seen timestamp NOT NULL DEFAULT current_timestamp ON UPDATE current_timestamp)"
    )
    store = mysql_place.store(user_column="", service_column="")
    [found] = setup.differences(store)
    assert found.what == "popbsmtp.first_seen changes at every UPDATE"
    run_by_client(mysql_place, printed_sql(store))
    assert setup.differences(store) == []


def test_address_column_that_holds_no_text_is_named(place):
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[place.kind]
    place.sql(f"CREATE TABLE popbsmtp (address bigint PRIMARY KEY, last_seen {time_type})")
    found = setup.differences(place.store(**LEFT_OUT))
    assert any("which is no text" in difference.what for difference in found)


def test_user_column_that_takes_no_null_is_named_and_changed(place):
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[place.kind]
    place.sql(
        f"CREATE TABLE popbsmtp (address varchar(45) PRIMARY KEY, last_seen {time_type} NOT NULL,"
        " username varchar(20) NOT NULL, extra varchar(9) NOT NULL)",
        "CREATE INDEX seen ON popbsmtp (last_seen)",
    )
    store = place.store(first_seen_column="", service_column="")
    found = [difference.what for difference in setup.differences(store)]
    assert sum("takes no NULL" in what for what in found) == 2
    with pytest.raises((SchemaError, RowRefusedError), match="run: popbsmtp init"):
        upsert.record(store, Login(ADDRESS))
    run_by_client(place, printed_sql(store))
    store = place.store(first_seen_column="", service_column="")
    assert setup.differences(store) == []
    upsert.record(store, Login(ADDRESS))
    assert postfix_permits(store, ADDRESS)


def test_init_of_an_old_table_prints_this_sql_and_then_says_right(place, tmp_path):
    old_table(place, {})
    names = "".join(f'{key} = "{value}"\n' for key, value in NAMES[place.kind].items())
    config = tmp_path / "popbsmtp.toml"
    config.write_text(f'[database]\nurl = "{place.database.url}"\n{names}')
    config.chmod(0o600)
    program = "from popbsmtp_wrap.cli.main import main; main()"
    command = [sys.executable, "-c", program, "-c", str(config), "init"]
    first = subprocess.run(command, text=True, capture_output=True, timeout=30)
    assert first.returncode == 78, first.stderr
    assert "another moment in each time zone" in first.stderr
    run_by_client(place, first.stdout)
    second = subprocess.run(command, text=True, capture_output=True, timeout=30)
    assert second.returncode == 0, second.stderr
    assert second.stdout.endswith(" is right\n")
