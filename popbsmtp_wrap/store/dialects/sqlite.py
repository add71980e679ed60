"""What SQLite does its own way."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import quoted_name

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.errors import (
    MisfitError,
    RefusedError,
    RowRefusedError,
    SchemaError,
    StoreUnavailableError,
)
from popbsmtp_wrap.store.dialects.base import (
    MISFIT,
    NO_TABLE,
    ROW_REFUSED,
    Dialect,
    Trouble,
    null_refused,
)
from popbsmtp_wrap.store.dialects.sqlite_file import FileConnection
from popbsmtp_wrap.store.sqlite_files import path_of
from popbsmtp_wrap.store.unique_keys import UniqueKey


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
    # One writer at a time; who waits looks again after up to 100 ms (sqliteDefaultBusyCallback).
    expire_batch = 200
    # begin_write() comes before the statement.
    can_autocommit = False
    locks_rows = False
    can_be_replaced = True

    def sqlalchemy_dialect(self) -> Any:
        return sqlite.dialect(paramstyle="named")

    def insert(self, table: sa.Table) -> Any:
        return sqlite.insert(table)

    def now(self) -> Any:
        # strftime gives text, and any text is greater than any integer. unixepoch() needs 3.38.
        return sa.cast(sa.func.strftime("%s", "now"), sa.Integer)

    def ago(self, seconds: Any) -> Any:
        return self.now() - seconds

    def before(self, moment: Any, seconds: int) -> Any:
        # Not a parameter: SQLAlchemy would name it after the column, whatever that is called.
        return moment - sa.literal_column(str(seconds))

    def ahead(self, seconds: int) -> Any:
        return self.now() + seconds

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
        # A resident writer commits in one of two threads, never in both at once.
        return {
            "timeout": answer_s,
            "check_same_thread": False,
            "factory": partial(FileConnection, url.database or ""),
        }

    def prepare(self, engine: sa.engine.Engine) -> None:
        @sa.event.listens_for(engine, "connect")
        def _connect(connection: Any, record: Any) -> None:
            # A commit returns after an fsync of the -wal file. EXTRA is FULL there; in an adopted
            # database without one it also syncs the removal of the journal.
            connection.execute("PRAGMA synchronous = EXTRA")

    def before_create(self, connection: Connection) -> None:
        # Readers (Postfix) and the writer do not block each other; kept in the file.
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")

    def lock_setup(self, connection: Connection) -> None:
        # Python's sqlite3 begins no transaction for data definition.
        self.begin_write(connection.exec_driver_sql)

    def check_in_place(self, driver: Any) -> None:
        driver.check_in_place()

    def file_of(self, driver: Any) -> str | None:
        return driver and driver.file  # type: ignore[no-any-return]  # the driver is untyped

    def has_bounded_waits(self, database: Database) -> bool:
        # A commit waits for an fsync, and nothing bounds that.
        return False

    def commit_at_once(self, driver: Any) -> bool:
        # What begins with BEGIN is a transaction as before.
        driver.isolation_level = None
        return True

    def begin_write(self, execute: Callable[[str], object]) -> None:
        execute("BEGIN IMMEDIATE")

    def begin_expire(self, connection: Connection) -> None:
        # The commit then does not wait for the disk, with the database locked. The connections of
        # expire do nothing else.
        connection.exec_driver_sql("PRAGMA synchronous = NORMAL")

    @contextmanager
    def expiring(self, engine: sa.engine.Engine) -> Iterator[Callable[[], object]]:
        # The last connection that closes writes everything into the database file and lets nobody
        # in meanwhile; so one stays open. It does that work without a lock between the batches,
        # before a login's commit has to.
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1 FROM sqlite_master").all()
            yield lambda: connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()

    def is_time(self, reflected: Any) -> bool:
        return isinstance(reflected, sa.Integer)

    def is_known(self, column: Any) -> Any:
        # Any column takes any type.
        return sa.func.typeof(column) == sa.literal_column("'integer'")

    def unique_keys(self, connection: Connection, table: str) -> list[UniqueKey]:
        # An INTEGER PRIMARY KEY is not among them: it is the number of the row.
        quote = self.sqlalchemy_dialect().identifier_preparer.quote
        keys = []
        listed = connection.exec_driver_sql(f"PRAGMA index_list({table})").all()
        for _, name, unique, origin, some_rows in listed:
            if unique:
                query = f"PRAGMA index_info({quote(quoted_name(name, True))})"
                parts = connection.exec_driver_sql(query).all()
                keys.append(
                    UniqueKey(
                        tuple(column or "an expression" for _, _, column in parts),
                        tuple(column for _, _, column in parts if column),
                        flaw="WHERE ..." if some_rows else "",
                        is_primary=origin == "pk",
                    )
                )
        return keys

    def losing_clause(self, connection: Connection, name: str) -> str:
        found = connection.execute(_DEFINITION, {"name": name}).scalar()
        clause = _LOSING.search(_NO_CODE.sub(" ", found or ""))
        return " ".join(clause[0].upper().split()) if clause else ""

    # SQLite changes no column in place: rebuild() does.
    def change_time(self, connection: Connection, table: str, column: str, found: Any) -> str:
        return ""

    def change_type(self, table: str, column: sa.Column[Any]) -> str:
        return ""

    def allow_null(self, table: str, column: str, found: Any) -> str:
        return ""

    def add_column(self, table: str, column: sa.Column[Any]) -> str:
        return ""

    def rebuild(self, table: sa.Table, create: Sequence[str], found: Collection[str]) -> str:
        quote = self.sqlalchemy_dialect().identifier_preparer.quote
        new, old = quote(table.name), quote(quoted_name(f"{table.name}_old", True))
        kept = [column for column in table.columns if column.name in found]
        names = ", ".join(quote(column.name) for column in kept)
        values = [
            # Numbers are Unix seconds already; text is UTC, as CURRENT_TIMESTAMP writes it.
            f"CASE WHEN typeof({quote(column.name)}) IN ('integer', 'real')"
            f" THEN CAST({quote(column.name)} AS INTEGER)"
            f" ELSE CAST(strftime('%s', {quote(column.name)}) AS INTEGER) END"
            if isinstance(column.type, sa.Integer)
            else quote(column.name)
            for column in kept
        ]
        known = " AND ".join(
            f"{value} IS NOT NULL"
            for column, value in zip(kept, values, strict=True)
            if not column.nullable
        )
        indexes = [f"DROP INDEX IF EXISTS {quote(index.name)}" for index in table.indexes]
        move = (
            f"INSERT OR REPLACE INTO {new} ({names})\n"
            f"SELECT {', '.join(values)}\nFROM {old}\nWHERE {known}"
        )
        rename = f"ALTER TABLE {new} RENAME TO {old}"
        return ";\n".join(["BEGIN IMMEDIATE", rename, *indexes, *create, move, "COMMIT"])

    def classify(self, error: DBAPIError, database: Database) -> Trouble:
        name = getattr(error.orig, "sqlite_errorname", "")
        if name.startswith("SQLITE_CANTOPEN"):
            return _cannot_open(path_of(database))
        # SQLITE_ERROR alone has no code of its own for what is missing.
        if name == "SQLITE_ERROR" and any(part in str(error.orig) for part in _WRONG_TABLE):
            return Trouble(SchemaError, NO_TABLE, ambiguous=True)
        if name == "SQLITE_CONSTRAINT_NOTNULL":
            return null_refused(str(error.orig).rpartition(".")[2], database)
        found = (trouble for prefixes, trouble in _TROUBLES.items() if name.startswith(prefixes))
        # SQLITE_ERROR is also what a function says of a value: a trigger's json_extract().
        unknown = Trouble(
            StoreUnavailableError,
            "check the disk and the file's own file system",
            ambiguous=name == "SQLITE_ERROR",
        )
        return next(found, unknown)


_DEFINITION: Final = sa.text(
    "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name COLLATE NOCASE"
)
# Comments, text and quoted names (https://www.sqlite.org/lang_keywords.html).
_NO_CODE = re.compile(r"--[^\n]*|/\*.*?(?:\*/|$)|'[^']*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]", re.DOTALL)
# https://www.sqlite.org/lang_conflict.html; ROLLBACK undoes the other logins of a batch.
_LOSING = re.compile(r"\bON\s+CONFLICT\s+(?:IGNORE|REPLACE|ROLLBACK)\b", re.IGNORECASE)
_PERMISSION: Final = Trouble(
    RefusedError, "check owner and mode of the file and its directory (sql/sqlite/roles.sql)"
)
_WRONG_TABLE: Final = (
    "no such",
    "has no column",
    "ON CONFLICT clause does not match",
    "generated column",
)
# https://www.sqlite.org/rescode.html, by the beginnings of the names.
_TROUBLES: Final[Mapping[tuple[str, ...], Trouble]] = {
    ("SQLITE_BUSY",): Trouble(
        StoreUnavailableError, "another program is writing; try again", again=True
    ),
    ("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH"): _PERMISSION,
    ("SQLITE_NOTADB", "SQLITE_CORRUPT"): Trouble(
        SchemaError, "move the file away, then run: popbsmtp init"
    ),
    # A strict table's type; a value that is too long for SQLite.
    ("SQLITE_CONSTRAINT_DATATYPE", "SQLITE_MISMATCH", "SQLITE_TOOBIG", "SQLITE_RANGE"): Trouble(
        MisfitError, MISFIT
    ),
    ("SQLITE_CONSTRAINT",): Trouble(RowRefusedError, ROW_REFUSED),
    ("SQLITE_FULL",): Trouble(StoreUnavailableError, "make room on the disk"),
}


def _cannot_open(path: str) -> Trouble:
    """Return what keeps SQLite from opening *path*: it does not say."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return Trouble(SchemaError, NO_TABLE)
    except OSError:
        pass
    return _PERMISSION
