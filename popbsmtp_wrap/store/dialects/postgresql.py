"""What PostgreSQL does its own way."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import (
    PopbsmtpError,
    RefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.store.dialects.base import IPV4_PATTERN, Dialect


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

    def is_ipv4(self, key: Any) -> Any:
        return key.op("~")(sa.literal_column(IPV4_PATTERN))

    def age_s(self, column: Any) -> Any:
        age = sa.extract("epoch", sa.func.now() - column)
        return sa.cast(sa.func.ceil(age), sa.BigInteger)

    def epoch(self, column: Any) -> Any:
        return sa.cast(sa.func.floor(sa.extract("epoch", column)), sa.BigInteger)

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        # libpq takes whole seconds, and 2 at least.
        return {
            "connect_timeout": max(2, round(connect_s)),
            "application_name": "popbsmtp",
            "client_encoding": "utf8",
        }

    def is_time(self, reflected: Any) -> bool:
        return bool(getattr(reflected, "timezone", False))

    def change_time(self, table: str, column: str) -> str:
        return (
            f"ALTER TABLE {table}"
            f" ALTER COLUMN {column} TYPE timestamptz,"
            f" ALTER COLUMN {column} SET DEFAULT CURRENT_TIMESTAMP,"
            f" ALTER COLUMN {column} SET NOT NULL"
        )

    def classify(self, error: DBAPIError) -> tuple[type[PopbsmtpError], bool]:
        code = getattr(error.orig, "pgcode", None) or ""
        text = str(error.orig)
        if code in ("40001", "40P01", "55P03"):  # serialization, deadlock, lock timeout
            return StoreUnavailableError, True
        if code == "42501" or "authentication failed" in text or "no pg_hba.conf entry" in text:
            return RefusedError, False
        if code in ("42P01", "42703", "42P10", "42883", "42804") or (
            not code and "does not exist" in text
        ):
            return SchemaError, False
        # 57P01..3: an administrator restarts the server; 25006: a standby.
        return StoreUnavailableError, code.startswith("57P") or error.connection_invalidated
