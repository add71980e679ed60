"""What MySQL and MariaDB do their own way."""

import re
import ssl
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.base import MySQLDDLCompiler
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.config.mysql_tls import OPTIONS, tls_of
from popbsmtp_wrap.errors import (
    LockedError,
    MisfitError,
    RefusedError,
    RowRefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.login import LONGEST_SERVICE, LONGEST_USER
from popbsmtp_wrap.store.dialects.base import (
    ADDRESS_LENGTH,
    AHEAD_S,
    DOWN,
    IPV4_PATTERN,
    MISFIT,
    NO_DATABASE,
    NO_TABLE,
    ROW_REFUSED,
    SHORTEST_ADDRESS,
    Dialect,
    Trouble,
    null_refused,
)
from popbsmtp_wrap.store.unique_keys import UniqueKey


class MySQL(Dialect):
    """MySQL 5.7 and MariaDB 10.3 and newer."""

    name = "mysql"
    driver = "pymysql"
    socket_option = "unix_socket"
    # Latin letters in one byte each and compared byte by byte.
    address_type = mysql.VARCHAR(ADDRESS_LENGTH, charset="ascii", collation="ascii_bin")
    # TIMESTAMP is UTC inside; DATETIME means another moment in each session's zone. Without an
    # explicit default the first TIMESTAMP of a table changes at every UPDATE.
    time_type = mysql.TIMESTAMP()
    user_type = mysql.VARCHAR(LONGEST_USER, charset="utf8mb4")
    service_type = mysql.VARCHAR(LONGEST_SERVICE, charset="ascii")
    table_options: ClassVar[Mapping[str, Any]] = {"mysql_engine": "InnoDB"}

    # It limits the whole statement.
    lock_limit_is_exact = False
    # 1 for a new row, 2 for one that has changed, 0 for one that is as it was.
    counts_upserts = False
    # Note 1592, "more than one UNIQUE KEY".
    has_unsafe_upserts = True
    # Data definition commits at once: a table without its index must not be seen, nor stay.
    index_in_table = True

    def sqlalchemy_dialect(self) -> Any:
        dialect = mysql.dialect(paramstyle="named")
        dialect.ddl_compiler = _InnerIndexes
        return dialect

    def insert(self, table: sa.Table) -> Any:
        return mysql.insert(table)

    def upsert(self, insert: Any, key: sa.Column[Any], changes: Sequence[tuple[str, Any]]) -> Any:
        # Another unique key finds another address's row, which must not be renewed.
        is_own = key == insert.inserted[key.name]
        return insert.on_duplicate_key_update(
            [(name, sa.case((is_own, new), else_=insert.table.c[name])) for name, new in changes]
        )

    def new(self, insert: Any) -> Any:
        return insert.inserted

    def ago(self, seconds: Any) -> Any:
        negative = -seconds if isinstance(seconds, int) else sa.literal(0) - seconds
        return sa.func.timestampadd(sa.text("SECOND"), negative, sa.func.now())

    def before(self, moment: Any, seconds: int) -> Any:
        return sa.func.timestampadd(sa.text("SECOND"), sa.text(str(-seconds)), moment)

    def age_s(self, column: Any) -> Any:
        # Of a TIMESTAMP column this is the number inside, whatever the session's zone.
        # MySQL's is unsigned, and an unsigned difference below 0 is an error there.
        now, then = sa.func.unix_timestamp(), sa.func.unix_timestamp(column)
        return sa.cast(now, mysql.BIGINT) - sa.cast(then, mysql.BIGINT)

    def epoch(self, column: Any) -> Any:
        return sa.func.unix_timestamp(column)

    def fresh(self, column: Any, grace_s: int) -> Any:
        # Not NOW(): in the hour that a zone repeats in autumn it names two moments, and Postfix's
        # session has the server's zone.
        now = sa.func.unix_timestamp()
        return sa.func.unix_timestamp(column).between(now - grace_s, now + AHEAD_S)

    def is_ipv4(self, key: Any) -> Any:
        return key.op("REGEXP")(sa.literal_column(IPV4_PATTERN))

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        return {
            **_pymysql_tls(url),
            # PyMySQL refuses to connect in less than a second; mysqlclient takes whole ones.
            "connect_timeout": max(1, ceil(connect_s)),
            "read_timeout": max(1, ceil(answer_s)),
            "write_timeout": max(1, ceil(answer_s)),
            "charset": "utf8mb4",
            # NOW() without ambiguous hours. Numeric: needs no time zone tables. The server gives up
            # a lock before the client gives up the server: a statement that nobody waits for any
            # more must not be executed when the lock is free. Strict for every engine: an address
            # that its column cuts is another client's.
            "init_command": "SET time_zone = '+00:00',"
            " sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES'), "
            + ", ".join(
                f"{name} = LEAST(@@{name}, {max(1, ceil(answer_s) - 1)})" for name in _LOCK_WAITS
            ),
        }

    def lock_limit(self, engine: sa.engine.Engine, limit_s: float | None) -> str:
        # MySQL has a limit for SELECT only, and waits for a row for whole seconds.
        if not getattr(engine.dialect, "is_mariadb", False):
            return ""
        if limit_s is None:
            return "SET STATEMENT innodb_lock_wait_timeout = 1 FOR "
        return f"SET STATEMENT max_statement_time = {limit_s:.3f} FOR "

    def limit_locks(self, connection: Connection) -> None:
        connection.exec_driver_sql(
            "SET " + ", ".join(f"{name} = LEAST(@@{name}, 1)" for name in _LOCK_WAITS)
        )

    def begin_expire(self, connection: Connection) -> None:
        self.limit_locks(connection)

    def adapt_url(self, url: URL) -> URL:
        # ssl_ca and ssl_verify_identity together lose the CA between SQLAlchemy and PyMySQL.
        named = {"pymysql", ""} & {url.drivername.partition("+")[2]}
        return url.difference_update_query(OPTIONS) if named else url

    def is_time(self, reflected: Any) -> bool:
        return isinstance(reflected, sa.TIMESTAMP)

    def is_key_type(self, reflected: Any) -> bool:
        # A key of TEXT or BLOB needs a length.
        return isinstance(reflected, sa.VARCHAR | sa.CHAR)

    def unique_keys(self, connection: Connection, table: str) -> list[UniqueKey]:
        plain = {"no_parameters": True}
        rows = connection.exec_driver_sql(f"SHOW INDEX FROM {table}", execution_options=plain)
        keys: dict[str, list[tuple[str | None, int | None]]] = {}
        for row in sorted(rows.mappings(), key=lambda row: int(row["Seq_in_index"])):
            if not int(row["Non_unique"]):
                part = row["Column_name"], row["Sub_part"]
                keys.setdefault(row["Key_name"], []).append(part)
        quote = self.sqlalchemy_dialect().identifier_preparer.quote
        return [
            UniqueKey(
                # No name: an expression.
                tuple(
                    (name or "an expression") + (f"({length})" if _cuts(length) else "")
                    for name, length in parts
                ),
                tuple(name for name, length in parts if name and not _cuts(length)),
                f"ALTER TABLE {table} DROP "
                + ("PRIMARY KEY" if key == "PRIMARY" else f"INDEX {quote(key)}"),
                is_primary=key == "PRIMARY",
            )
            for key, parts in keys.items()
        ]

    def change_time(self, connection: Connection, table: str, column: str, found: Any) -> str:
        # In the server's zone, in which the old scripts wrote; a TIMESTAMP ends in 2038.
        expired = f"DELETE FROM {table} WHERE {column} IS NULL"  # noqa: S608 - quoted by SQLAlchemy
        lines = ["SET time_zone = @@GLOBAL.time_zone", expired]
        kind = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP"
        if isinstance(found, sa.Integer | sa.Numeric):
            new = "`popbsmtp_new`"
            lines += [
                f"ALTER TABLE {table} ADD COLUMN {new} {kind}",
                f"UPDATE {table} SET {new} = FROM_UNIXTIME({column})",  # noqa: S608 - the same
                f"ALTER TABLE {table} DROP COLUMN {column}",
                f"ALTER TABLE {table} CHANGE COLUMN {new} {column} {kind}",
            ]
        else:
            lines[1] += f" OR {column} NOT BETWEEN '1970-01-03' AND '2038-01-17'"
            lines.append(f"ALTER TABLE {table} MODIFY COLUMN {column} {kind}")
        return ";\n".join(lines)

    def change_type(self, table: str, column: sa.Column[Any]) -> str:
        return f"ALTER TABLE {table} MODIFY COLUMN {self.column_ddl(column)}"

    def allow_null(self, table: str, column: str, found: Any) -> str:
        kind = found.compile(dialect=self.sqlalchemy_dialect())
        return f"ALTER TABLE {table} MODIFY COLUMN {column} {kind} NULL"

    def reason(self, error: DBAPIError) -> str:
        code, *text = getattr(error.orig, "args", None) or [0]
        return f"{text[0]} ({code})" if text else super().reason(error)

    def classify(self, error: DBAPIError, database: Database) -> Trouble:
        code, *text = getattr(error.orig, "args", None) or [0]
        if code == _NULL:
            column = re.search("'([^']*)'", str(text))
            return null_refused(column[1] if column else "", database)
        found = (trouble for codes, trouble in _TROUBLES.items() if code in codes)
        # A trigger's SIGNAL may have any number; those from 2000 on are the client's own.
        unknown = isinstance(code, int) and (1000 <= code < 2000 or code >= 3000)  # noqa: PLR2004
        return next(found, Trouble(StoreUnavailableError, DOWN, ambiguous=unknown))


# For a row, and for a table that somebody has locked or changes; whole seconds.
_LOCK_WAITS: Final = ("innodb_lock_wait_timeout", "lock_wait_timeout")
_NULL: Final = 1048


def _cuts(length: int | None) -> bool:
    """Tell whether a part of a key with this length takes the beginnings of addresses only."""
    return length is not None and int(length) < SHORTEST_ADDRESS


def _pymysql_tls(url: URL) -> dict[str, Any]:
    """Return PyMySQL's arguments for TLS; none where it is used if offered."""
    tls = tls_of({key: str(value) for key, value in url.query.items()})
    if tls.disabled:
        return {"ssl_disabled": True}
    if tls.is_default or url.drivername.partition("+")[2] != "pymysql":
        return {}
    files = dict(tls.files)
    if tls.checks_chain and not files.keys() & {"ca", "capath"}:
        files["capath"] = ssl.get_default_verify_paths().capath
    words: dict[str, Any] = {**files, "check_hostname": tls.checks_name}
    if tls.key_password:
        words["password"] = tls.key_password
    return {"ssl": words}


# https://mariadb.com/kb/en/mariadb-error-code-reference/
_TROUBLES: Final[Mapping[tuple[int, ...], Trouble]] = {
    # Lock wait timeout; max_statement_time (of MariaDB).
    (1205,): Trouble(LockedError, "try again", again=True),
    (1969,): Trouble(LockedError, "try again"),
    # Deadlock (also Galera's certification failure).
    (1213,): Trouble(StoreUnavailableError, "try again", again=True),
    # Too long, out of range, not of the column's character set or type.
    (1264, 1265, 1300, 1366, 1292, 1406, 3854): Trouble(MisfitError, MISFIT),
    # Another unique key, foreign key, SIGNAL, CHECK of MySQL and MariaDB.
    (1062, 1216, 1452, 1644, 3819, 4025): Trouble(RowRefusedError, ROW_REFUSED),
    # Disk (full), memory, too many connections, not the primary component of a Galera cluster.
    (1021, 1030, 1114, 1037, 1038, 1040, 1041, 1203, 1226, 1047): Trouble(
        StoreUnavailableError, DOWN
    ),
    # Gone away, lost during query, server shutdown.
    (2006, 2013, 2055, 1053): Trouble(StoreUnavailableError, DOWN, again=True),
    # They pass: KILL QUERY, KILL, a row or a table that has changed meanwhile, an error of COMMIT,
    # packets that are lost on the way, a rollback of group replication, a client that was idle.
    (1317, 1927, 1020, 1412, 1180, 1158, 1159, 1160, 1161, 3101, 4031): Trouble(
        StoreUnavailableError, "try again", again=True
    ),
    # --read-only, a transaction that is read-only, innodb_read_only.
    (1290, 1792, 1836): Trouble(
        StoreUnavailableError,
        "this server is read-only, perhaps a replica: database.url has to name the primary",
    ),
    # Access denied (user, database, table, column, host).
    (1044, 1045, 1130, 1142, 1143, 1227, 1370, 1698): Trouble(
        RefusedError,
        "check user and password of database.url and sql/mysql/roles.sql",
        ambiguous=True,
    ),
    (1049,): Trouble(SchemaError, NO_DATABASE),
    # An expired password.
    (1820, 1862): Trouble(RefusedError, "give the user of database.url a new password"),
    # No such column, table; no default; a generated column of MariaDB and MySQL.
    (1054, 1146, 1364, 1906, 3105): Trouble(SchemaError, NO_TABLE, ambiguous=True),
}


class _InnerIndexes(MySQLDDLCompiler):
    """Writes the indexes into CREATE TABLE."""

    def create_table_constraints(self, table: Any, *arguments: Any, **options: Any) -> str:
        inherited = super().create_table_constraints(table, *arguments, **options)  # type: ignore[no-untyped-call]  # untyped in SQLAlchemy
        lines = [inherited]
        for index in table.indexes:
            columns = ", ".join(self.preparer.format_column(c) for c in index.columns)
            lines.append(f"INDEX {self.preparer.quote(index.name)} ({columns})")
        return ", \n\t".join(lines)
