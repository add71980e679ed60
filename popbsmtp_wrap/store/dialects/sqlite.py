"""What SQLite does its own way."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import (
    PopbsmtpError,
    RefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.store.dialects.base import Dialect


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
