"""What a table's unique keys have to be: one of the address, and none that logins collide in."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.engine import Connection

from popbsmtp_wrap.store.difference import Difference
from popbsmtp_wrap.store.engine import Store
from popbsmtp_wrap.store.schema import identifier
from popbsmtp_wrap.store.unique_keys import UniqueKey


def compare_keys(
    store: Store, connection: Connection, columns: Mapping[str, Any]
) -> tuple[list[Difference], list[Difference]]:
    """Return what to change before the table's *columns* are, and what after that."""
    # Not the connection's: that doubles a % in a name, for a driver's parameters.
    quote = store.dialect.sqlalchemy_dialect().identifier_preparer.quote
    name, address = store.table.name, store.address.name
    table = quote(identifier(name))
    keys = store.dialect.unique_keys(connection, table)
    ours = {column.name for column in store.table.columns}
    colliding = [key for key in keys if key.collides(address, ours, columns)]
    # A key of whole addresses is in the way of none, unless it is taken for the upsert's.
    useless = [
        key for key in keys if key.columns == key.parts == (address,) and "DEFERRABLE" in key.flaw
    ]
    first = [
        Difference(
            f"{name} has the unique key {key}: logins from different addresses collide in it, so"
            " that one of them is lost",
            key.drop,
        )
        for key in colliding
    ]
    first += [
        Difference(f"{name} has the key {key}: an upsert needs one that is not", key.drop)
        for key in useless
    ]
    kept = [key for key in keys if key not in colliding and key not in useless]
    after = list(_address_key(store, kept, table, quote(identifier(address)), columns))
    if store.dialect.has_unsafe_upserts and len({key.parts for key in kept}) > 1:
        after.append(
            Difference(
                f"{name} has more than one unique key: binlog_format has to be ROW or MIXED, as"
                " statement-based replication calls its upserts unsafe",
                harmless=True,
            )
        )
    return first, after


def _address_key(
    store: Store, keys: list[UniqueKey], table: str, column: str, columns: Mapping[str, Any]
) -> Iterator[Difference]:
    name, address = store.table.name, store.address.name
    if any(key.identifies(address) for key in keys):
        return
    found = columns.get(address)
    if found is not None and not store.dialect.is_key_type(found["type"]):
        yield Difference(
            f"{name}.{address} is {found['type']}, which cannot be a key as a whole",
            store.dialect.change_type(table, store.address),
        )
    # A table has one primary key at most, and may have another program's.
    kind = "UNIQUE" if any(key.is_primary for key in keys) else "PRIMARY KEY"
    yield Difference(
        f"{name}.{address} is no primary key", f"ALTER TABLE {table} ADD {kind} ({column})"
    )
