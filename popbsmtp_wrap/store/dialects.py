"""What differs between the databases, one class each, the reason under each difference.

Nothing else in the project asks which database it talks to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import (
    PopbsmtpError,
    RefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.login import LONGEST_SERVICE, LONGEST_USER

# Longest text of an IPv6 address, INET6_ADDRSTRLEN - 1.
ADDRESS_LENGTH: Final = 45
# How far a time may lie ahead of the clock that reads it.
AHEAD_S: Final = 60
IPV4_PATTERN: Final = "'^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$'"


class Dialect:
    """What every database has to say about itself."""

    name: ClassVar[str]
    driver: ClassVar[str]
    address_type: ClassVar[Any] = sa.String(ADDRESS_LENGTH)
    time_type: ClassVar[Any]
    time_default: ClassVar[Any] = sa.text("CURRENT_TIMESTAMP")
    user_type: ClassVar[Any] = sa.String(LONGEST_USER)
    service_type: ClassVar[Any] = sa.String(LONGEST_SERVICE)
    table_options: ClassVar[Mapping[str, Any]] = {}

    def sqlalchemy_dialect(self) -> Any:
        """Return a SQLAlchemy dialect to compile text with, without a connection."""
        raise NotImplementedError

    def insert(self, table: sa.Table) -> Any:
        """Return this database's INSERT that can upsert."""
        raise NotImplementedError

    def upsert(self, insert: Any, key: sa.Column[Any], changes: Sequence[tuple[str, Any]]) -> Any:
        """Return *insert* with *changes* applied, in their order, where the row exists."""
        return insert.on_conflict_do_update(index_elements=[key], set_=dict(changes))

    def new(self, insert: Any) -> Any:
        """Return the columns of the row that *insert* proposes."""
        return insert.excluded

    def now(self) -> Any:
        """Return the database's clock, to the second or finer."""
        return sa.func.now()

    def ago(self, seconds: Any) -> Any:
        """Return the time *seconds* ago by the database's clock."""
        raise NotImplementedError

    def age_s(self, column: Any) -> Any:
        """Return how long ago *column* was, in whole seconds, rounded up."""
        raise NotImplementedError

    def epoch(self, column: Any) -> Any:
        """Return *column* in Unix seconds, rounded down."""
        raise NotImplementedError

    def fresh(self, column: Any, grace_s: int) -> Any:
        """Return the condition that lets an address relay: what Postfix's map asks, too.

        A time more than a minute ahead is no login: the clock was wrong, or somebody wrote a
        local time into a column that holds none.
        """
        return sa.and_(column >= self.ago(grace_s), column <= self.ago(-AHEAD_S))

    def is_ipv4(self, key: Any) -> Any:
        """Return the condition that *key* is written like a dotted quad."""
        raise NotImplementedError

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        """Return the driver's arguments that bound every wait."""
        raise NotImplementedError

    def adapt_url(self, url: URL) -> URL:
        """Return *url* as the driver wants it."""
        return url

    def prepare(self, engine: sa.engine.Engine) -> None:
        """Set up what each new connection of *engine* needs."""

    def after_create(self, connection: Connection) -> None:
        """Do what a new table needs besides its DDL."""

    def is_time(self, reflected: Any) -> bool:
        """Tell whether a reflected column type holds an unambiguous time."""
        raise NotImplementedError

    def change_time(self, table: str, column: str) -> str:
        """Return the SQL that turns an old script's time column into ours."""
        raise NotImplementedError

    def add_column(self, table: str, column: sa.Column[Any]) -> str:
        """Return the SQL that adds a column that an old script's table lacks."""
        ddl = sa.schema.CreateColumn(column).compile(dialect=self.sqlalchemy_dialect())
        return f"ALTER TABLE {table} ADD COLUMN {ddl}"

    def classify(self, error: DBAPIError) -> tuple[type[PopbsmtpError], bool]:
        """Return what *error* means and whether trying again at once may help."""
        raise NotImplementedError


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


class SQLite(Dialect):
    """SQLite 3.24 and newer (upsert)."""

    name = "sqlite"
    driver = "pysqlite"
    address_type = sa.Text()
    # Unix seconds: text in SQLite's own form and in ISO 8601 do not compare with each other.
    time_type = sa.Integer()
    time_default = sa.text("(CAST(strftime('%s', 'now') AS INTEGER))")
    user_type = sa.Text()
    service_type = sa.Text()

    def sqlalchemy_dialect(self) -> Any:
        return sqlite.dialect(paramstyle="named")

    def insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table)

    def now(self) -> Any:
        # strftime gives text, and any text is greater than any integer. unixepoch() needs 3.38.
        return sa.cast(sa.func.strftime("%s", "now"), sa.Integer)

    def ago(self, seconds: Any) -> Any:
        return self.now() - seconds

    def age_s(self, column: Any) -> Any:
        return self.now() - column

    def epoch(self, column: Any) -> Any:
        return column

    def is_ipv4(self, key: Any) -> Any:
        return sa.and_(
            key.op("GLOB")(sa.literal_column("'[0-9]*.[0-9]*.[0-9]*.[0-9]*'")),
            key.op("NOT GLOB")(sa.literal_column("'*[^0-9.]*'")),
            key.op("NOT GLOB")(sa.literal_column("'*.*.*.*.*'")),
        )

    def adapt_url(self, url: URL) -> URL:
        # mode=rw: a login must not create an empty database where the real one is missing.
        path = (url.database or "").replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        return url.set(database=f"file:{path}", query={"mode": "rw", "uri": "true"})

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        # How long a writer waits for another one (sqlite3_busy_timeout).
        return {"timeout": answer_s}

    def prepare(self, engine: sa.engine.Engine) -> None:
        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            # A login lost to a power cut is made again; two fsyncs per login are not worth it.
            connection.execute("PRAGMA synchronous = NORMAL")

    def after_create(self, connection: Connection) -> None:
        # Readers (Postfix) and the writer do not block each other; kept in the file.
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    def is_time(self, reflected: Any) -> bool:
        return isinstance(reflected, sa.Integer)

    def change_time(self, table: str, column: str) -> str:
        # SQLite cannot change a column's type; old logins are worth half an hour.
        return f"DROP TABLE {table}"

    def add_column(self, table: str, column: sa.Column[Any]) -> str:
        if not column.nullable:
            # SQLite takes no expression as the default of an added column.
            return f"ALTER TABLE {table} ADD COLUMN {column.name} INTEGER NOT NULL DEFAULT 0"
        return super().add_column(table, column)

    def classify(self, error: DBAPIError) -> tuple[type[PopbsmtpError], bool]:
        name = getattr(error.orig, "sqlite_errorname", "")
        text = str(error.orig)
        if name.startswith("SQLITE_BUSY"):
            return StoreUnavailableError, True
        if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
            return RefusedError, False
        if "no such" in text or "has no column" in text or name.startswith("SQLITE_NOTADB"):
            return SchemaError, False
        if name.startswith("SQLITE_CANTOPEN"):
            return SchemaError, False
        return StoreUnavailableError, False


BY_NAME: Final[Mapping[str, Dialect]] = {d.name: d for d in (PostgreSQL(), MySQL(), SQLite())}
