"""The connection that a resident writer keeps."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from popbsmtp_wrap.errors import FileReplacedError, LockedError, RowRefusedError
from popbsmtp_wrap.store.engine import Store
from popbsmtp_wrap.store.timeouts import limit_answers


class PersistentConnection:
    """A connection that stays until something fails on it. Not safe to share between threads."""

    def __init__(self, store: Store) -> None:
        """With a *store* that has no autocommit each begin() is a transaction as usual."""
        self._store = store
        self._connection: Connection | None = None
        self._limit_s = store.answer_s
        # Behind a pooler there may be those of other processes, of other tables, on one connection.
        self._name = f"popbsmtp_{secrets.token_hex(4)}"
        self._prepared: dict[str, str] = {}
        # How often another database was found in place of the one that was open.
        self.replacements = 0

    @contextmanager
    def begin(self, *, keep_ambiguous: bool = False) -> Iterator[Connection]:
        """Give the connection; what is executed on it is committed at the end, or at once.

        With *keep_ambiguous* it stays open after an error that may be that of one row.
        Raise FileReplacedError when it was committed to a file that others do not read.
        """
        self._leave_replaced()
        if self._connection is None:
            self._connection = self._store.engine.connect()
            self._limit_s = self._store.answer_s
            self._prepared.clear()
        try:
            self.limit(self._store.answer_s)
            # Neither taken from the pool nor given back each time: PyMySQL would ask the server for
            # a COMMIT and a ROLLBACK.
            if self._store.autocommit:
                yield self._connection
            else:
                with self._connection.begin():
                    yield self._connection
            self.check_in_place()
        except DBAPIError as error:
            trouble = self._store.dialect.classify(error, self._store.database)
            # A server that is well has answered. Anything else may be another server by now.
            is_well = issubclass(trouble.kind, LockedError | RowRefusedError)
            is_well = is_well or (keep_ambiguous and trouble.ambiguous)
            if error.connection_invalidated or not is_well:
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def check_in_place(self) -> None:
        """Return when what was committed is where others look for it.

        Raise FileReplacedError when it is not; then close() the session.
        """
        try:
            self._store.dialect.check_in_place(self.driver_connection)
        except FileReplacedError:
            self.replacements += 1
            raise

    def _leave_replaced(self) -> None:
        """Close a connection to a file that is not the database any more."""
        if self._connection is not None:
            try:
                self.check_in_place()
            except FileReplacedError:
                self.close()

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection, None when none is open."""
        return self._connection and self._connection.connection.dbapi_connection

    def limit(self, limit_s: float) -> bool:
        """Have each answer on the open connection waited for *limit_s* seconds.

        Return False for a driver that has no way to do that. Raise the driver's errors.
        """
        if limit_s == self._limit_s:
            return True
        driver = self._store.engine.dialect.driver
        if not limit_answers(self.driver_connection, driver, limit_s):
            return False
        self._limit_s = limit_s
        return True

    def execute(self, cursor: Any, text: str, values: Any = None, before: str = "") -> None:
        """Execute the driver's *text*, prepared where that is faster, by its *cursor*.

        *before* is what dialect.lock_limit() puts in front.
        """
        statement = self._prepared.get(text)
        if statement is None:
            name = f"{self._name}_{len(self._prepared)}"
            prepare, statement = self._store.dialect.prepared(name, text) or (None, text)
            if prepare:
                cursor.execute(prepare)
            self._prepared[text] = statement
        cursor.execute(before + statement, values or ())

    def close(self) -> None:
        """Close the connection without another question to the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
