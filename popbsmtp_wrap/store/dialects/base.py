"""What every database has to say about itself."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.config import Database
from popbsmtp_wrap.config.database_url import Endpoint
from popbsmtp_wrap.errors import PopbsmtpError, RowRefusedError, SchemaError
from popbsmtp_wrap.login import LONGEST_SERVICE, LONGEST_USER
from popbsmtp_wrap.store.unique_keys import UniqueKey

# Longest text of an IPv6 address, INET6_ADDRSTRLEN - 1.
ADDRESS_LENGTH: Final = 45
# The longest canonical IPv6 text; old scripts made varchar(39).
SHORTEST_ADDRESS: Final = 39
DOWN: Final = "check that the server is up and reachable, and database.url"
NO_TABLE: Final = "run: popbsmtp init"
ROW_REFUSED: Final = "the table's rules do not allow this login"
NOT_KEPT: Final = "a trigger or rule of the table does not keep this login"
MISFIT: Final = "make the column wider, or its type as in: popbsmtp init --sql"
NO_DATABASE: Final = "create the database or correct database.url, then run: popbsmtp init"
# How far a time may lie ahead of the clock that reads it.
AHEAD_S: Final = 60
IPV4_PATTERN: Final = "'^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+$'"


@dataclass(frozen=True)
class Trouble:
    """What an error of the database means, what to do, whether trying again at once may help.

    *ambiguous*: a trigger or a policy can raise this for one row of a table that takes all others.
    """

    kind: type[PopbsmtpError]
    advice: str
    again: bool = False
    ambiguous: bool = False


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
    # A batch of expire commits in about 10 ms on a small machine (bench/expire.py), and the others
    # then get expire_rest times as long as it took: a login waits for a core, when expire and the
    # server keep two of them busy, more than for a row.
    expire_batch: ClassVar[int] = 1000
    expire_rest: ClassVar[float] = 3
    # Whether a statement may be a transaction of its own: one round trip instead of three.
    can_autocommit: ClassVar[bool] = True
    # Whether a statement that lock_limit() ends has waited for a lock, and for nothing else.
    lock_limit_is_exact: ClassVar[bool] = True
    # Whether the count of an upsert is that of the rows that were inserted or updated.
    counts_upserts: ClassVar[bool] = True
    # Whether one row can be locked alone.
    locks_rows: ClassVar[bool] = True
    # Whether somebody may put another database in its place behind an open connection.
    can_be_replaced: ClassVar[bool] = False
    # Whether an upsert into a table with several unique keys may end otherwise on a replica.
    has_unsafe_upserts: ClassVar[bool] = False
    # What the driver calls the path of a unix socket.
    socket_option: ClassVar[str] = "host"
    # Whether CREATE TABLE brings the index along.
    index_in_table: ClassVar[bool] = False

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

    def clock(self) -> Any:
        """Return the database's clock after what the statement has waited for, where it can tell.

        Only for statements that are executed again once they hold their rows.
        """
        return self.now()

    def before(self, moment: Any, seconds: int) -> Any:
        """Return the time *seconds* before *moment*."""
        raise NotImplementedError

    def ahead(self, seconds: int) -> Any:
        """Return the time in *seconds* by the database's clock."""
        return self.ago(-seconds)

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
        return sa.and_(column >= self.ago(grace_s), column <= self.ahead(AHEAD_S))

    def bytewise(self, column: Any) -> Any:
        """Return the address *column* as something to sort by, in the order of sorted()."""
        return column

    def is_ipv4(self, key: Any) -> Any:
        """Return the condition that *key* is written like a dotted quad."""
        raise NotImplementedError

    def connect_arguments(self, url: URL, connect_s: float, answer_s: float) -> dict[str, Any]:
        """Return the driver's arguments that bound every wait."""
        raise NotImplementedError

    def at_place(self, url: URL, place: Endpoint = Endpoint()) -> URL:  # noqa: B008 - it is frozen
        """Return *url* with the host and port, or the socket, of *place*."""
        if place.socket:
            url = url.update_query_dict({self.socket_option: place.socket})
        return url.set(host=place.host or None, port=place.port)

    def adapt_url(self, url: URL) -> URL:
        """Return *url* as the driver wants it."""
        return url

    def prepare(self, engine: sa.engine.Engine) -> None:
        """Set up what each new connection of *engine* needs."""

    def before_create(self, connection: Connection) -> None:
        """Do what a new table needs besides its DDL, outside of a transaction."""

    def lock_setup(self, connection: Connection) -> None:
        """Keep another init out, where two could see each other's half-made table."""

    def begin_write(self, execute: Callable[[str], object]) -> None:
        """Wait for other writers now, where a statement would wait before it reads the clock."""

    def lock_limit(self, engine: sa.engine.Engine, limit_s: float | None) -> str:
        """Return what to write before a driver's text so that it waits *limit_s* for a lock.

        The server then gives up by itself. None: as long as it takes to be sure that it is a lock.
        "" where there is no such thing.
        """
        return ""

    def skip_locked(self, query: Any) -> Any:
        """Return *query* so that it leaves out the rows that an upsert would have to wait for."""
        return query.with_for_update(skip_locked=True)

    def check_in_place(self, driver: Any) -> None:
        """Return when what *driver*'s connection has committed is where others look for it.

        Raise FileReplacedError: then a new connection has to do it again.
        """

    def file_of(self, driver: Any) -> str | None:
        """Return device and inode of what *driver*'s connection writes to, None for a server."""
        return None

    def has_bounded_waits(self, database: Database) -> bool:
        """Tell whether nothing but the time-outs of store/timeouts.py decides how long it takes."""
        return True

    def commit_at_once(self, driver: Any) -> bool:
        """Have a statement outside a transaction of *driver*'s connection be one of its own.

        False where only autocommit can do that.
        """
        return False

    def prepared(self, name: str, text: str) -> tuple[str, str] | None:
        """Return what makes the driver's *text* a prepared statement, and what executes that.

        None where the text itself is as good. The values are the same.
        """
        return None

    def limit_locks(self, connection: Connection) -> None:
        """Have this transaction give up a lock soon, by LockedError, where rows are locked."""

    def begin_expire(self, connection: Connection) -> None:
        """Let a crash undo this transaction: what expire deletes is still old the next time."""

    @contextmanager
    def expiring(self, engine: sa.engine.Engine) -> Iterator[Callable[[], object]]:
        """Give what expire calls between its batches."""
        yield lambda: None

    def is_time(self, reflected: Any) -> bool:
        """Tell whether a reflected column type holds an unambiguous time."""
        raise NotImplementedError

    def is_known(self, column: Any) -> Any:
        """Return the condition that *column* holds a time; in an adopted table it may not."""
        return column.isnot(None)

    def is_address(self, reflected: Any) -> bool:
        """Tell whether a reflected column type compares with an address as text."""
        return isinstance(reflected, sa.String)

    def is_key_type(self, reflected: Any) -> bool:
        """Tell whether a column of this reflected type, an address's, can be a key as a whole."""
        return True

    def unique_keys(self, connection: Connection, table: str) -> list[UniqueKey]:
        """Return the unique keys of *table*, a quoted name."""
        raise NotImplementedError

    def losing_clause(self, connection: Connection, name: str) -> str:
        """Return what in the definition of the table *name* drops rows silently, or ""."""
        return ""

    def change_time(self, connection: Connection, table: str, column: str, found: Any) -> str:
        """Return the SQL that turns an old script's time column into ours; moments stay.

        *found* is the column's reflected type. Rows without a time never let anybody relay; they
        go.
        """
        raise NotImplementedError

    def change_type(self, table: str, column: sa.Column[Any]) -> str:
        """Return the SQL that gives an old script's column our type."""
        raise NotImplementedError

    def allow_null(self, table: str, column: str, found: Any) -> str:
        """Return the SQL that makes a column of reflected type *found* optional."""
        raise NotImplementedError

    def add_column(self, table: str, column: sa.Column[Any]) -> str:
        """Return the SQL that adds a column that an old script's table lacks."""
        return f"ALTER TABLE {table} ADD COLUMN {self.column_ddl(column)}"

    def column_ddl(self, column: sa.Column[Any]) -> str:
        """Return *column* as CREATE TABLE writes it."""
        return str(sa.schema.CreateColumn(column).compile(dialect=self.sqlalchemy_dialect()))

    def rebuild(self, table: sa.Table, create: Sequence[str], found: Collection[str]) -> str:
        """Return the SQL that moves the rows to a new table, "" where ALTER TABLE does it all.

        *found* names the columns of the old one.
        """
        return ""

    def reason(self, error: DBAPIError) -> str:
        """Return what the database says."""
        return str(error.orig)

    def classify(self, error: DBAPIError, database: Database) -> Trouble:
        """Return what *error* means."""
        raise NotImplementedError


def null_refused(column: str, database: Database) -> Trouble:
    """Return what it means that *column* takes no NULL."""
    ours = (database.user_column, database.service_column)
    if column and column in ours:
        return Trouble(RowRefusedError, NO_TABLE)
    # One of somebody else's, which no login has a value for.
    return Trouble(SchemaError, NO_TABLE)
