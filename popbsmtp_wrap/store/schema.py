"""The table, built from the names in the configuration."""

from sqlalchemy import Column, Index, MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import quoted_name

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.store.dialects import Dialect

# Words that no database reserves.
_PLAIN = frozenset([*vars(Database()).values(), "popbsmtp_last_seen"])


def identifier(name: str) -> quoted_name:
    """Return *name* so that SQLAlchemy quotes it, unless it is a default.

    It knows the reserved words of some versions of some databases only.
    """
    return quoted_name(name, None if name in _PLAIN else True)


def build_table(database: Database, dialect: Dialect) -> Table:
    """Return the table of logins as *dialect* types it.

    The address is the only unique key: a second one makes MySQL's upsert unsafe for
    statement-based replication and prone to deadlocks. The index serves expire and list.
    """
    columns = [
        Column(identifier(database.address_column), dialect.address_type, primary_key=True),
        Column(
            identifier(database.last_seen_column),
            dialect.time_type,
            nullable=False,
            server_default=dialect.time_default,
        ),
    ]
    if database.first_seen_column:
        columns.append(
            Column(
                identifier(database.first_seen_column),
                dialect.time_type,
                nullable=False,
                server_default=dialect.time_default,
            )
        )
    if database.user_column:
        columns.append(Column(identifier(database.user_column), dialect.user_type))
    if database.service_column:
        columns.append(Column(identifier(database.service_column), dialect.service_type))
    table = Table(identifier(database.table), MetaData(), *columns, **dialect.table_options)
    # 63 characters are PostgreSQL's limit; a table's own name must not come out.
    name = f"{database.table[:31]}_{database.last_seen_column[:31]}"
    Index(identifier(name), columns[1])
    return table


def create_statements(table: Table, dialect: Dialect) -> list[str]:
    """Return the SQL that creates *table* and its index, without semicolons."""
    statements = [str(CreateTable(table).compile(dialect=dialect.sqlalchemy_dialect()))]
    if not dialect.index_in_table:
        statements.append(create_index(table, dialect))
    return ["\n".join(line.rstrip() for line in s.strip().splitlines()) for s in statements]


def create_index(table: Table, dialect: Dialect) -> str:
    """Return the SQL that creates the index of *table*."""
    [index] = table.indexes
    return str(CreateIndex(index).compile(dialect=dialect.sqlalchemy_dialect())).strip()
