"""What MySQL and MariaDB do their own way."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import (
    PopbsmtpError,
    RefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.login import LONGEST_SERVICE, LONGEST_USER
from popbsmtp_wrap.store.dialects.base import ADDRESS_LENGTH, AHEAD_S, IPV4_PATTERN, Dialect


class MySQL(Dialect):
    """MySQL 5.7 and MariaDB 10.3 and newer."""

    name = "mysql"
    driver = "pymysql"
    # Latin letters in one byte each and compared byte by byte.
    address_type = mysql.VARCHAR(ADDRESS_LENGTH, charset="ascii", collation="ascii_bin")
    # TIMESTAMP is UTC inside; DATETIME means another moment in each session's zone. Without an
    # explicit default the first TIMESTAMP of a table changes at every UPDATE.
    time_type = mysql.TIMESTAMP()
    user_type = mysql.VARCHAR(LONGEST_USER, charset="utf8mb4")
    service_type = mysql.VARCHAR(LONGEST_SERVICE, charset="ascii")
    table_options: ClassVar[Mapping[str, Any]] = {"mysql_engine": "InnoDB"}

    # Access denied (user, database, table, column).
    _REFUSED = (1044, 1045, 1142, 1143, 1227, 1370, 1698)
    # No such database, column, table; no default; no matching key.
    _SCHEMA = (1049, 1054, 1146, 1364)
    # Lock wait timeout, deadlock (also Galera's certification failure).
    _TRANSIENT = (1205, 1213)
    # Gone away, lost during query, server shutdown.
    _LOST = (2006, 2013, 2055, 1053)

    def sqlalchemy_dialect(self) -> Any:
        return mysql.dialect(paramstyle="named")

    def insert(self, table: sa.Table) -> Any:
        return mysql.insert(table)

    def upsert(self, insert: Any, key: sa.Column[Any], changes: Sequence[tuple[str, Any]]) -> Any:
        return insert.on_duplicate_key_update(list(changes))

    def new(self, insert: Any) -> Any:
        return insert.inserted

    def ago(self, seconds: Any) -> Any:
        negative = -seconds if isinstance(seconds, int) else sa.literal(0) - seconds
        return sa.func.timestampadd(sa.text("SECOND"), negative, sa.func.now())

    def age_s(self, column: Any) -> Any:
        # Of a TIMESTAMP column this is the number inside, whatever the session's zone.
        return sa.func.unix_timestamp() - sa.func.unix_timestamp(column)

    def epoch(self, column: Any) -> Any:
        return sa.func.unix_timestamp(column)

    def fresh(self, column: Any, grace_s: int) -> Any:
        # Not NOW(): in the hour that a zone repeats in autumn it names two moments, and Postfix's
        # session has the server's zone.
        return self.age_s(column).between(-AHEAD_S, grace_s)

    def is_ipv4(self, key: Any) -> Any:
        return key.op("REGEXP")(sa.literal_column(IPV4_PATTERN))

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            # PyMySQL refuses less than a second.
            "connect_timeout": max(1, round(connect_s)),
            "read_timeout": answer_s,
            "write_timeout": answer_s,
            "charset": "utf8mb4",
            # NOW() without ambiguous hours. Numeric: needs no time zone tables.
            "init_command": "SET time_zone = '+00:00'",
        }
        return arguments

    def is_time(self, reflected: Any) -> bool:
        return isinstance(reflected, sa.TIMESTAMP)

    def change_time(self, table: str, column: str) -> str:
        return (
            f"ALTER TABLE {table}"
            f" MODIFY COLUMN {column} TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
        )

    def classify(self, error: DBAPIError) -> tuple[type[PopbsmtpError], bool]:
        arguments = getattr(error.orig, "args", None) or (0,)
        code = arguments[0]
        if code in self._TRANSIENT or code in self._LOST:
            return StoreUnavailableError, True
        if code in self._REFUSED:
            return RefusedError, False
        if code in self._SCHEMA:
            return SchemaError, False
        return StoreUnavailableError, False
