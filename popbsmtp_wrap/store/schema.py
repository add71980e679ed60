"""The table, built from the names in the configuration."""

from sqlalchemy import Column, Index, MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.store.dialects import Dialect


def build_table(database: Database, dialect: Dialect) -> Table:
    """Return the table of logins as *dialect* types it.

    The address is the only unique key: a second one makes MySQL's upsert unsafe for
    statement-based replication and prone to deadlocks. The index serves expire and list.
    """
    columns = [
        Column(database.address_column, dialect.address_type, primary_key=True),
        Column(
            database.last_seen_column,
            dialect.time_type,
            nullable=False,
            server_default=dialect.time_default,
        ),
    ]
    if database.first_seen_column:
        columns.append(
            Column(
                database.first_seen_column,
                dialect.time_type,
                nullable=False,
                server_default=dialect.time_default,
            )
        )
    if database.user_column:
        columns.append(Column(database.user_column, dialect.user_type))
    if database.service_column:
        columns.append(Column(database.service_column, dialect.service_type))
    table = Table(database.table, MetaData(), *columns, **dialect.table_options)
    Index(f"{database.table}_{database.last_seen_column}"[:63], columns[1])
    return table


def create_statements(table: Table, dialect: Dialect) -> list[str]:
    """Return the SQL that creates *table* and its index, without semicolons."""
    compiled = dialect.sqlalchemy_dialect()
    statements = [CreateTable(table).compile(dialect=compiled)]
    statements += [CreateIndex(index).compile(dialect=compiled) for index in table.indexes]
    return ["\n".join(line.rstrip() for line in str(s).strip().splitlines()) for s in statements]
