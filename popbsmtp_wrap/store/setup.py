"""Create the table, or say what an existing one lacks and how to change it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.store.engine import Store, explained, transaction
from popbsmtp_wrap.store.schema import create_statements

# The longest canonical IPv6 text; old scripts made varchar(39).
_SHORTEST_ADDRESS = 39


@dataclass(frozen=True)
class Difference:
    """What a table lacks, and the SQL that changes it (empty: change the configuration)."""

    what: str
    sql: str = ""


def create_sql(store: Store) -> str:
    """Return the SQL script that creates the table."""
    return "".join(f"{s};\n" for s in create_statements(store.table, store.dialect))


def create(store: Store) -> bool:
    """Create the table and its index; return False if it was there. Idempotent."""
    try:
        with transaction(store) as connection:
            if sa.inspect(connection).has_table(store.table.name):
                return False
        with transaction(store) as connection:
            store.dialect.after_create(connection)
        with transaction(store) as connection:
            store.table.metadata.create_all(connection)
    except Exception as error:
        cause = error.__cause__
        # Another host may have been quicker.
        if isinstance(cause, DBAPIError) and "exist" in str(cause.orig):
            return False
        raise
    return True


def differences(store: Store) -> list[Difference]:
    """Return what the existing table lacks to serve; empty when it is right.

    Columns that we do not know are nobody's fault: old tables may have more.
    """
    with transaction(store) as connection:
        try:
            return list(_compare(store, connection))
        except sa.exc.NoSuchTableError:
            return [Difference(f"there is no table {store.table.name}", create_sql(store))]
        except DBAPIError as error:
            raise explained(store, error) from error


def _compare(store: Store, connection: Connection) -> Iterator[Difference]:
    inspector = sa.inspect(connection)
    quote = connection.dialect.identifier_preparer.quote
    name, database, dialect = store.table.name, store.database, store.dialect
    table = quote(name)
    columns = {column["name"]: column for column in inspector.get_columns(name)}
    if not columns:
        raise sa.exc.NoSuchTableError(name)
    for column in store.table.columns:
        yield from _compare_column(store, column, columns.get(column.name), quote)
    keys = [inspector.get_pk_constraint(name)["constrained_columns"]]
    keys += [
        [str(column) for column in index["column_names"]]
        for index in inspector.get_indexes(name)
        if index["unique"]
    ]
    if [database.address_column] not in keys:
        yield Difference(
            f"{name}.{database.address_column} is no primary key",
            f"ALTER TABLE {table} ADD PRIMARY KEY ({quote(database.address_column)})",
        )
    if len({tuple(key) for key in keys if key}) > 1:
        yield Difference(
            f"{name} has more than one unique key; statement-based replication calls its upserts"
            " unsafe"
        )
    indexed = [index["column_names"][:1] for index in inspector.get_indexes(name)]
    if [database.last_seen_column] not in indexed:
        _, index_sql = create_statements(store.table, dialect)
        yield Difference(f"{name}.{database.last_seen_column} has no index", index_sql)


def _compare_column(
    store: Store, column: sa.Column[Any], found: Any, quote: Callable[[str], str]
) -> Iterator[Difference]:
    name, database = store.table.name, store.database
    if found is None:
        change = store.dialect.add_column(quote(name), column)
        yield Difference(f"{name} has no column {column.name}", change)
    elif column.name in (database.last_seen_column, database.first_seen_column):
        if not store.dialect.is_time(found["type"]):
            yield Difference(
                f"{name}.{column.name} is {found['type']}, which is another moment in each"
                " time zone",
                store.dialect.change_time(quote(name), quote(column.name)),
            )
    elif column.name == database.address_column:
        length = getattr(found["type"], "length", None)
        if length is not None and length < _SHORTEST_ADDRESS:
            yield Difference(f"{name}.{column.name} is too short for IPv6 ({length})")
