"""What PostgreSQL does its own way."""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.errors import (
    ConfigError,
    LockedError,
    MisfitError,
    RefusedError,
    RowRefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.store.dialects.base import (
    DOWN,
    IPV4_PATTERN,
    MISFIT,
    NO_DATABASE,
    NO_TABLE,
    ROW_REFUSED,
    Dialect,
    Trouble,
    null_refused,
)
from popbsmtp_wrap.store.unique_keys import UniqueKey

# psycopg2's, as SQLAlchemy writes them, and its escape.
_PARAMETER = re.compile(r"%(?:%|\((\w+)\)s)")


class PostgreSQL(Dialect):
    """PostgreSQL 9.5 and newer (ON CONFLICT)."""

    name = "postgresql"
    driver = "psycopg2"
    # With a time zone: "timestamp" without one means another moment in each session's zone.
    time_type = postgresql.TIMESTAMP(timezone=True)

    def sqlalchemy_dialect(self) -> Any:
        return postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]

    def insert(self, table: sa.Table) -> Any:
        return postgresql.insert(table)

    def ago(self, seconds: Any) -> Any:
        if isinstance(seconds, int):
            return sa.func.now() - sa.literal_column(f"interval '{seconds} seconds'")
        return sa.func.now() - sa.func.make_interval(0, 0, 0, 0, 0, 0, seconds, type_=sa.Interval)

    def clock(self) -> Any:
        # now() is when the transaction began, before it waited for its rows.
        return sa.func.clock_timestamp()

    def before(self, moment: Any, seconds: int) -> Any:
        return moment - sa.literal_column(f"interval '{seconds} seconds'")

    def ahead(self, seconds: int) -> Any:
        return sa.func.now() + sa.literal_column(f"interval '{seconds} seconds'")

    def is_ipv4(self, key: Any) -> Any:
        return key.op("~")(sa.literal_column(IPV4_PATTERN))

    def age_s(self, column: Any) -> Any:
        age = sa.extract("epoch", sa.func.now() - column)
        return sa.cast(sa.func.ceil(age), sa.BigInteger)

    def epoch(self, column: Any) -> Any:
        return sa.cast(sa.func.floor(sa.extract("epoch", column)), sa.BigInteger)

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        return {
            # For other drivers than psycopg2, see waiting.py. Whole seconds, 2 at least.
            "connect_timeout": max(2, ceil(connect_s)),
            "application_name": "popbsmtp",
            "client_encoding": "utf8",
        }

    def bytewise(self, column: Any) -> Any:
        # Most databases sort as a language does, and leave out dots and colons. An inet has no
        # collation; as text it ends in /32 or /128, and / comes before what may follow an address.
        return sa.cast(column, sa.Text).collate("C")

    def prepared(self, name: str, text: str) -> tuple[str, str]:
        # Parsing and planning take as long as the rest, the flush left out.
        numbers: dict[str, int] = {}

        def numbered(found: re.Match[str]) -> str:
            return f"${numbers.setdefault(found[1], len(numbers) + 1)}" if found[1] else "%"

        statement = _PARAMETER.sub(numbered, text)
        values = ", ".join(f"%({parameter})s" for parameter in numbers)
        return f"PREPARE {name} AS {statement}", f"EXECUTE {name} ({values})"

    def lock_limit(self, engine: sa.engine.Engine, limit_s: float | None) -> str:
        # Both go to the server as one query, which is one transaction: nothing stays set for others
        # behind a pooler. Other drivers send one statement at a time.
        if limit_s is None or engine.dialect.driver != "psycopg2":
            return ""
        return f"SET LOCAL lock_timeout = {max(1, round(limit_s * 1000))}; "

    def skip_locked(self, query: Any) -> Any:
        # A foreign key's lock on a row is no obstacle.
        return query.with_for_update(key_share=True, skip_locked=True)

    def limit_locks(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '200ms'")

    def begin_expire(self, connection: Connection) -> None:
        # The commit then does not wait for the disk, with the rows locked and before the logins'.
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
        # Whoever waits for one of the rows keeps the others from their logins.
        self.limit_locks(connection)

    def is_time(self, reflected: Any) -> bool:
        return bool(getattr(reflected, "timezone", False))

    def is_known(self, column: Any) -> Any:
        # 'infinity' is a time to PostgreSQL, and no number of seconds.
        return sa.func.isfinite(column)

    def is_address(self, reflected: Any) -> bool:
        return isinstance(reflected, sa.String | postgresql.INET)

    def unique_keys(self, connection: Connection, table: str) -> list[UniqueKey]:
        quote = self.sqlalchemy_dialect().identifier_preparer.quote
        keys = []
        for row in connection.execute(_UNIQUE_KEYS, {"table": table}):
            wrong = {
                "DEFERRABLE": not row.at_once,
                "WHERE ...": row.partial,
                "INVALID": not row.valid,
                "EXCLUDE": row.exclusion,
            }
            if row.constraint_name is None:
                drop = f"DROP INDEX {row.index_name}"
            else:
                drop = f"ALTER TABLE {table} DROP CONSTRAINT {quote(row.constraint_name)}"
            keys.append(
                UniqueKey(
                    tuple(name or "an expression" for name in row.column_names),
                    tuple(name for name in row.column_names if name),
                    drop,
                    " ".join(word for word, is_so in wrong.items() if is_so),
                    is_primary=row.is_primary,
                    nulls_collide=row.nulls_collide,
                )
            )
        return keys

    def change_time(self, connection: Connection, table: str, column: str, found: Any) -> str:
        # The zone is written out: whoever runs this may be in another one.
        zone = connection.exec_driver_sql("SHOW TimeZone").scalar()
        moment = f"{column}::timestamp AT TIME ZONE '{zone}'"
        if isinstance(found, sa.Integer | sa.Numeric):
            moment = f"to_timestamp({column})"
        return (
            f"DELETE FROM {table} WHERE {column} IS NULL;\n"  # noqa: S608 - quoted by SQLAlchemy
            f"ALTER TABLE {table}\n"
            f"    ALTER COLUMN {column} DROP DEFAULT,\n"
            f"    ALTER COLUMN {column} TYPE timestamptz USING {moment},\n"
            f"    ALTER COLUMN {column} SET DEFAULT CURRENT_TIMESTAMP,\n"
            f"    ALTER COLUMN {column} SET NOT NULL"
        )

    def change_type(self, table: str, column: sa.Column[Any]) -> str:
        name, kind = self.column_ddl(column).split()[:2]
        return f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {kind}"

    def allow_null(self, table: str, column: str, found: Any) -> str:
        return f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"

    def classify(self, error: DBAPIError, database: Database) -> Trouble:
        code = getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None) or ""
        if code == _NULL:
            column = getattr(getattr(error.orig, "diag", None), "column_name", None)
            return null_refused(column or "", database)
        if not code:
            # Errors of connecting carry none.
            return _of_connecting(str(error.orig), lost=error.connection_invalidated)
        found = (trouble for codes, trouble in _TROUBLES.items() if code.startswith(codes))
        # 57P01..3: an administrator restarts the server.
        lost = code.startswith("57P") or error.connection_invalidated
        # A trigger's RAISE may have any code.
        unknown = Trouble(
            StoreUnavailableError, DOWN, again=lost, ambiguous=not code.startswith(_SERVER)
        )
        return next(found, unknown)


# By to_jsonb() what older versions do not have: columns that are only included (11), NULLS NOT
# DISTINCT (15).
_UNIQUE_KEYS: Final = sa.text("""
    SELECT CAST(CAST(i.indexrelid AS regclass) AS text) AS index_name,
           CAST(c.conname AS text) AS constraint_name,
           i.indisprimary AS is_primary,
           i.indimmediate AS at_once,
           i.indpred IS NOT NULL AS partial,
           i.indisvalid AS valid,
           i.indisexclusion AS exclusion,
           COALESCE(to_jsonb(i) ->> 'indnullsnotdistinct' = 'true', false) AS nulls_collide,
           ARRAY(
               SELECT CAST(a.attname AS text)
                 FROM unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (number, place)
                      LEFT JOIN pg_attribute AS a
                      ON a.attrelid = i.indrelid AND a.attnum = k.number
                WHERE k.place
                      <= COALESCE(CAST(to_jsonb(i) ->> 'indnkeyatts' AS integer), i.indnatts)
                ORDER BY k.place
           ) AS column_names
      FROM pg_index AS i
           LEFT JOIN pg_constraint AS c
           ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid
           AND c.contype IN ('p', 'u', 'x')
     WHERE i.indrelid = CAST(:table AS regclass)
       AND (i.indisunique OR i.indisexclusion)
     ORDER BY i.indisprimary DESC, 1
""")
_NULL: Final = "23502"
# Classes that no row is the cause of: connection, transaction, rollback, resources, limits, state,
# operator, system, snapshot, configuration, internal.
_SERVER: Final = ("08", "25", "40", "53", "54", "55", "57", "58", "72", "F0", "XX")
_NOT_ALLOWED: Final = Trouble(
    RefusedError, "check user and password of database.url and sql/postgresql/roles.sql"
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html, by the beginnings of the codes.
_TROUBLES: Final[Mapping[tuple[str, ...], Trouble]] = {
    ("55P03",): Trouble(LockedError, "try again", again=True),
    # Serialization, deadlock.
    ("40001", "40P01"): Trouble(StoreUnavailableError, "try again", again=True),
    # Too long, not of the encoding or type.
    ("22",): Trouble(MisfitError, MISFIT),
    # A constraint, RAISE in a trigger, a view's WITH CHECK OPTION.
    ("23", "P0001", "44000"): Trouble(RowRefusedError, ROW_REFUSED),
    ("25006",): Trouble(
        StoreUnavailableError,
        "this server is read-only, perhaps a standby: database.url has to name the primary",
    ),
    # Row-level security has the same one.
    ("42501",): replace(_NOT_ALLOWED, ambiguous=True),
    ("3D000",): Trouble(SchemaError, NO_DATABASE),
    # No table, column, matching key, function; wrong type; a deferrable key, a generated column.
    ("42P01", "42703", "42P10", "42883", "42804", "55000", "428C9"): Trouble(
        SchemaError, NO_TABLE, ambiguous=True
    ),
}
# src/backend/libpq/auth.c, utils/init/postinit.c, and libpq itself.
_REFUSED: Final = (
    "authentication failed",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects connection",
    "no password supplied",
    "permission denied",
    "is not permitted to log in",
    'FATAL:  role "',
)
_NO_DATABASE_TEXT = re.compile(r'FATAL: +database ".*" does not exist')
# What libpq says of the URL itself (fe-connect.c, fe-secure-openssl.c), and the setting.
_KEY_OF: Final = {
    "root certificate file": "sslrootcert, or put the authority's certificate there,",
    "certificate file": "sslcert",
    "private key file": "sslkey",
    "invalid port number": "the port",
}
_WRONG_URL = re.compile("|".join([*_KEY_OF, r"\w+(?= value: )", r"(?<=connection option )\S+"]))


def _of_connecting(text: str, *, lost: bool) -> Trouble:
    if _NO_DATABASE_TEXT.search(text):
        return Trouble(SchemaError, NO_DATABASE)
    if any(part in text for part in _REFUSED):
        return _NOT_ALLOWED
    if found := _WRONG_URL.search(text):
        return Trouble(ConfigError, f"correct {_KEY_OF.get(found[0], found[0])} in database.url")
    return Trouble(StoreUnavailableError, DOWN, again=lost)
