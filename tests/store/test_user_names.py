"""A strange user name never loses the login."""

import pytest

from popbsmtp_wrap.login import make_login
from popbsmtp_wrap.store import queries, upsert
from tests.store.places import ADDRESS, GRACE_S, PostgresPlace, postfix_permits

NAMES = {
    "unicode": "jörg@例え.jp",
    "astral": "🦊" * 10,
    "long": "x" * 5000,
    "long_unicode": "ü" * 5000,
    "long_astral": "🦊" * 300,
    "control": "a\0b\nc\x1b[2J\x7f",
    "invalid_utf8": b"a\xff\xfe\xc3(",
    "surrogate": "a\udcff\udcc3(",
    "quotes": "'; DROP TABLE popbsmtp; -- \" ` \\ % %s :x ?",
    "blank": " \u2028\u00a0\u202e ",
    "combining": "e" + "\u0301" * 400,
}
names = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())


def recorded(store, login):
    for _ in range(2):
        upsert.record(store, login)
    [row] = queries.rows(store, GRACE_S)
    assert row.address == ADDRESS
    assert postfix_permits(store, ADDRESS)
    return row


@names
def test_our_own_table_keeps_every_name(store, name):
    login = make_login(ADDRESS, name, "imap")
    row = recorded(store, login)
    assert row.user == login.user
    assert row.user.isprintable()
    assert len(row.user) <= 255
    assert row.service == "imap"


@names
def test_strange_service_loses_neither_login_nor_user(store, name):
    row = recorded(store, make_login(ADDRESS, "ann", name))
    assert row.user in ("ann", None)
    assert row.service


COLUMNS = {
    "sqlite": ["VARCHAR(20)", "BLOB"],
    "postgresql": ["varchar(20)", "varchar(3)", "char(20)"],
    "mysql": [
        "VARCHAR(20)",
        "VARCHAR(3)",
        "VARCHAR(20) CHARACTER SET latin1",
        "VARCHAR(255) CHARACTER SET latin1",
        "VARCHAR(255) CHARACTER SET utf8mb3",
        "VARCHAR(20) CHARACTER SET ascii",
        "VARBINARY(20)",
    ],
}
ADOPTED = [(kind, column) for kind, columns in COLUMNS.items() for column in columns]


@pytest.mark.parametrize(("kind", "column"), ADOPTED)
def test_narrow_column_of_an_adopted_table_never_loses_the_login(places, kind, column):
    place = places.new(kind)
    time_type = {"sqlite": "INTEGER", "postgresql": "timestamptz", "mysql": "TIMESTAMP"}[kind]
    place.sql(
        f"CREATE TABLE popbsmtp (address VARCHAR(39) PRIMARY KEY, last_seen {time_type},"
        f" username {column}, service VARCHAR(4))"
    )
    store = place.store(first_seen_column="")
    for name in NAMES.values():
        row = recorded(store, make_login(ADDRESS, name, "managesieve"))
        assert row.address == ADDRESS
    row = recorded(store, make_login(ADDRESS, "ann", "imap"))
    assert row.user.strip() == "ann" if isinstance(row.user, str) else row.user == b"ann"
    assert row.service == "imap"


def test_plain_part_of_a_long_name_survives_a_narrow_column(places):
    place = places.new("postgresql")
    place.sql(
        "CREATE TABLE popbsmtp (address varchar(39) PRIMARY KEY, last_seen timestamptz,"
        " username varchar(20), service varchar(4))"
    )
    store = place.store(first_seen_column="")
    row = recorded(store, make_login(ADDRESS, "somebody.with.a.long.name@example.net", "pop3"))
    assert (row.user, row.service) == ("somebody.with.a.long", "pop3")


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_postgresql_database_in_another_encoding_never_loses_the_login(places, encoding):
    options = f"ENCODING '{encoding}' LOCALE 'C'"
    place = PostgresPlace(places.postgres, options)
    store = place.created()
    for name in NAMES.values():
        recorded(store, make_login(ADDRESS, name, "imap"))
    assert recorded(store, make_login(ADDRESS, "jörg", "imap")).user == "jörg"
