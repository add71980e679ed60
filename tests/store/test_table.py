"""The table: what init makes, and that the text in sql/ is the same."""

import multiprocessing
import os
import re
import signal

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from popbsmtp_wrap.config import Database, Settings
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, removal, setup, upsert
from popbsmtp_wrap.store.lookup_query import lookup_query
from popbsmtp_wrap.store.schema import create_statements
from tests.store.places import ADDRESS, GRACE_S, postfix_permits

SQL = os.path.join(os.path.dirname(__file__), "..", "..", "sql")


def read_sql(kind, name):
    with open(os.path.join(SQL, kind, name), encoding="utf-8") as file:
        return file.read()


def bare(script):
    """Return *script* without comments and with single blanks."""
    return re.sub(r"\s+", " ", re.sub(r"--[^\n]*", "", script)).replace("( ", "(").strip()


def test_schema_in_sql_directory_is_what_the_code_makes(place):
    text = bare(read_sql(place.kind, "schema.sql"))
    assert text == bare(setup.create_sql(place.store()))
    statements = create_statements(place.store().table, place.store().dialect)
    assert text == bare("".join(f"{statement};\n" for statement in statements))


def test_schema_in_sql_directory_makes_the_right_table(place):
    place.script(read_sql(place.kind, "schema.sql"))
    store = place.store()
    assert not setup.create(store)
    assert setup.differences(store) == []
    assert found_by_alembic(store) == []
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert postfix_permits(store, ADDRESS)


def found_by_alembic(store):
    with store.engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": False}
        )
        return compare_metadata(context, store.table.metadata)


def test_init_makes_the_right_table_and_is_idempotent(place):
    store = place.store()
    [missing] = setup.differences(store)
    assert missing == setup.Difference("there is no table popbsmtp", setup.create_sql(store))
    assert setup.create(store) is True
    upsert.record(store, Login(ADDRESS))
    for _ in range(2):
        assert setup.create(store) is False
        assert setup.differences(store) == []
        assert found_by_alembic(store) == []
    assert place.addresses() == [ADDRESS]


def _init(place, barrier, results):
    store = place.store(answer_s=30)
    barrier.wait()
    try:
        results.put((setup.create(store), setup.differences(store)))
    except Exception as error:  # noqa: BLE001 - the parent shows it
        results.put((repr(error), []))


def test_many_inits_at_once_make_one_table(place):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.SimpleQueue()
    children = [context.Process(target=_init, args=(place, barrier, results)) for _ in range(6)]
    for child in children:
        child.start()
    found = [results.get() for _ in children]
    for child in children:
        child.join()
    assert sorted(found, key=str) == [(False, [])] * 5 + [(True, [])]


def _init_killed_half_way(place):
    store = place.store()
    last = create_statements(store.table, store.dialect)[-1].split()[:3]

    import sqlalchemy as sa

    @sa.event.listens_for(store.engine, "after_cursor_execute")
    def _kill(connection, cursor, statement, *rest):
        if statement.split()[:2] == ["CREATE", "TABLE"] or statement.split()[:3] == last:
            os.kill(os.getpid(), signal.SIGKILL)

    setup.create(store)


def test_init_killed_half_way_leaves_no_half_of_a_table(place):
    child = multiprocessing.get_context("fork").Process(target=_init_killed_half_way, args=(place,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    store = place.store()
    setup.create(store)
    assert setup.differences(store) == []


@pytest.mark.parametrize("word", ["order", "user", "table", "group", "key", "Mixed_Case", "offset"])
def test_reserved_words_serve_as_names(place, word):
    store = place.created(
        table=word,
        address_column="table" if word != "table" else "select",
        last_seen_column="when",
        first_seen_column="from",
        user_column="user",
        service_column="index",
    )
    assert not setup.create(store)
    assert setup.differences(store) == []
    for _ in range(2):
        upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert postfix_permits(store, ADDRESS)
    [row] = queries.rows(store, GRACE_S)
    assert (row.address, row.user, row.service) == (ADDRESS, "ann", "imap")
    assert removal.expire(store, GRACE_S) == 0
    assert removal.revoke(store, [ADDRESS]) == 1


@pytest.mark.parametrize("word", ["returning", "rows", "window", "rank", "intersect", "over"])
def test_words_that_only_some_servers_reserve_serve_as_names(place, word):
    names = {"table": word, "address_column": word, "last_seen_column": f"{word}_seen"}
    store = place.created(**names, first_seen_column="", user_column="", service_column="")
    upsert.record(store, Login(ADDRESS))
    assert postfix_permits(store, ADDRESS)


def test_longest_names_serve(place):
    names = {
        field: f"{letter * 63}"
        for letter, field in zip(
            "abcdef",
            ["table", *(f"{c}_column" for c in ("address", "last_seen", "first_seen", "user"))],
            strict=False,
        )
    }
    store = place.created(**names)
    assert setup.differences(store) == []
    upsert.record(store, Login(ADDRESS, "ann", "imap"))
    assert postfix_permits(store, ADDRESS)


@pytest.mark.parametrize(
    "switched_off",
    [
        ("first_seen_column",),
        ("user_column",),
        ("service_column",),
        ("first_seen_column", "user_column", "service_column"),
    ],
)
def test_optional_columns_can_be_left_out(place, switched_off):
    store = place.created(**dict.fromkeys(switched_off, ""))
    assert setup.differences(store) == []
    assert found_by_alembic(store) == []
    for age_s in (5, 0, 9):
        upsert.record(store, Login(ADDRESS, "ann", "imap", age_s=age_s))
    [row] = queries.rows(store, GRACE_S)
    assert (row.first_seen is None) == ("first_seen_column" in switched_off)
    assert row.user == (None if "user_column" in switched_off else "ann")
    assert row.service == (None if "service_column" in switched_off else "imap")
    assert row.remaining_s >= GRACE_S - 4
    assert postfix_permits(store, ADDRESS)
    assert removal.expired_count(store, GRACE_S) == removal.expire(store, GRACE_S) == 0


def test_mariadb_urls_and_other_drivers_names_are_understood(mysql_place):
    for scheme in ("mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"):
        url = mysql_place.database.url.replace("mysql", scheme, 1)
        store = mysql_place.store(url=url)
        setup.create(store)
        assert setup.differences(store) == []
        upsert.record(store, Login(ADDRESS, scheme[:20]))
        assert queries.remaining_s(store, ADDRESS, GRACE_S)


def test_lookup_query_is_one_line_without_stray_percent_signs():
    for url in ("sqlite:////s.db", "postgresql://h/d", "mysql://h/d", "mariadb://h/d"):
        query = lookup_query(Settings(database=Database(url=url)), only_ipv4=True)
        assert "\n" not in query
        assert re.findall("%.", query.replace("%%", "")) == ["%s"] * query.count("'%s'")
