"""The one SELECT of a Postfix map, as text."""

import sqlalchemy as sa

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.store.dialects import dialect_named
from popbsmtp_wrap.store.engine import Store, transaction
from popbsmtp_wrap.store.schema import identifier

_KEY = "'<key>'"


def lookup_query(settings: Settings, *, only_ipv4: bool = False) -> str:
    """Return the query of a Postfix map, on one line: OK for an address that may relay.

    The condition on the age is the one that `popbsmtp check` asks. *only_ipv4* refuses every key
    that is no dotted quad, for a Postfix that also asks for names and prefixes. Postfix puts the
    quoted key in place of %s, and wants every other % twice, see sqlite_table(5).
    """
    database = settings.database
    dialect = dialect_named(database.dialect)
    key: sa.ColumnClause = sa.literal_column(_KEY)
    # Columns without their table in front: easier to read, and there is one table only.
    query: sa.sql.Select = (
        sa.select(sa.literal_column("'OK'"))
        .select_from(sa.table(identifier(database.table)))
        .where(sa.column(identifier(database.address_column)) == key)
        .where(dialect.fresh(sa.column(identifier(database.last_seen_column)), settings.grace))
    )
    if only_ipv4:
        query = query.where(dialect.is_ipv4(key))
    compiled = query.compile(
        dialect=dialect.sqlalchemy_dialect(), compile_kwargs={"literal_binds": True}
    )
    text = " ".join(str(compiled).split())
    return text.replace("%", "%%").replace(_KEY, "'%s'")


def map_permits(store: Store, settings: Settings, key: str) -> bool:
    """Return what a Postfix map answers for *key*, by running its very query."""
    text = lookup_query(settings).replace("'%s'", ":key").replace("%%", "%")
    with transaction(store) as connection:
        return connection.execute(sa.text(text), {"key": key}).scalar() == "OK"
