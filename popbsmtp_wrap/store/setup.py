"""Create the table, or say what an existing one lacks and how to change it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.store.dialects.base import ADDRESS_LENGTH, SHORTEST_ADDRESS
from popbsmtp_wrap.store.difference import Difference
from popbsmtp_wrap.store.engine import Store, explained, retrying, transaction
from popbsmtp_wrap.store.key_differences import compare_keys
from popbsmtp_wrap.store.schema import create_index, create_statements, identifier


def create_sql(store: Store) -> str:
    """Return the SQL script that creates the table."""
    return "".join(f"{s};\n" for s in create_statements(store.table, store.dialect))


def create(store: Store) -> bool:
    """Create the table and its index; return False if it was there. Idempotent."""

    def create_missing(connection: Connection) -> bool:
        store.dialect.lock_setup(connection)
        if sa.inspect(connection).has_table(store.table.name):
            return False
        for statement in create_statements(store.table, store.dialect):
            # As it stands: psycopg2 and PyMySQL take a % in a name for a parameter's.
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        return True

    with transaction(store) as connection:
        if sa.inspect(connection).has_table(store.table.name):
            return False
    retrying(store, store.dialect.before_create)
    try:
        return retrying(store, create_missing)
    except PopbsmtpError as error:
        cause = error.__cause__
        # Another host may have been quicker.
        if isinstance(cause, DBAPIError) and "already exists" in str(cause.orig):
            return False
        raise


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
    name, dialect = store.table.name, store.dialect
    columns = {column["name"]: column for column in inspector.get_columns(name)}
    if not columns:
        raise sa.exc.NoSuchTableError(name)
    # A key that goes may hold a column that changes, and one that comes may need the change.
    first, after = compare_keys(store, connection, columns)
    found = [*_compare_definition(store, connection), *first]
    found += [*_compare_columns(store, connection, columns), *after]
    script = dialect.rebuild(store.table, create_statements(store.table, dialect), columns.keys())
    if script and found:
        yield from (Difference(difference.what) for difference in found)
        yield Difference(f"the rows have to move to a new table; {name}_old keeps the old", script)
        return
    yield from found
    indexed = [index["column_names"][:1] for index in inspector.get_indexes(name)]
    if [store.last_seen.name] not in indexed and store.last_seen.name in columns:
        yield Difference(
            f"{name}.{store.last_seen.name} has no index", create_index(store.table, dialect)
        )


def _compare_definition(store: Store, connection: Connection) -> Iterator[Difference]:
    name = store.table.name
    if clause := store.dialect.losing_clause(connection, name):
        yield Difference(f"{name} is defined with {clause}, which loses logins without an error")


def _compare_columns(
    store: Store, connection: Connection, columns: Mapping[str, Any]
) -> Iterator[Difference]:
    quote = connection.dialect.identifier_preparer.quote
    dialect, name, table = store.dialect, store.table.name, quote(identifier(store.table.name))
    for column in store.table.columns:
        found = columns.get(column.name)
        if found is None:
            change = dialect.add_column(table, column)
            yield Difference(f"{name} has no column {column.name}", change)
            continue
        if found.get("computed"):
            yield Difference(
                f"{name}.{column.name} is a generated column, which takes no value from a login;"
                " name another column in the configuration, or another table"
            )
        elif column is store.address:
            yield from _compare_address(store, found, table)
        elif not column.nullable:
            yield from _compare_time(store, connection, found, quote)
    for found in columns.values():
        ours = store.table.columns.get(found["name"])
        if (ours is None or ours.nullable) and _demands_value(found):
            yield Difference(
                f"{name}.{found['name']} takes no NULL and has no default: logins could not be"
                " recorded",
                dialect.allow_null(table, quote(identifier(found["name"])), found["type"]),
            )


def _compare_address(store: Store, found: Any, table: str) -> Iterator[Difference]:
    label = f"{store.table.name}.{found['name']}"
    if not store.dialect.is_address(found["type"]):
        yield Difference(f"{label} is {found['type']}, which is no text; use another table")
    elif (getattr(found["type"], "length", None) or ADDRESS_LENGTH) < SHORTEST_ADDRESS:
        change = store.dialect.change_type(table, store.address)
        yield Difference(f"{label} is too short for IPv6 ({found['type'].length})", change)


def _compare_time(
    store: Store, connection: Connection, found: Any, quote: Callable[[str], str]
) -> Iterator[Difference]:
    table, label = store.table.name, f"{store.table.name}.{found['name']}"
    wrong = ""
    if not store.dialect.is_time(found["type"]):
        wrong = f"is {found['type']}, which is another moment in each time zone"
    elif "on update" in str(found["default"]).lower():
        wrong = "changes at every UPDATE"
    if wrong:
        yield Difference(
            f"{label} {wrong}",
            store.dialect.change_time(
                connection,
                quote(identifier(table)),
                quote(identifier(found["name"])),
                found["type"],
            ),
        )


def _demands_value(found: Any) -> bool:
    """Tell whether a row cannot be inserted without a value for this reflected column."""
    if found["nullable"] or found["default"] is not None or found.get("autoincrement") is True:
        return False
    # SQLite numbers its INTEGER PRIMARY KEY by itself.
    return not found.get("primary_key") and not (found.get("identity") or found.get("computed"))
