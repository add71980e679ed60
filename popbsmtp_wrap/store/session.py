"""The connection that a resident writer keeps."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.engine import Connection

from popbsmtp_wrap.store.engine import Store


class Session:
    """A connection that stays until something fails on it. Not safe to share between threads."""

    def __init__(self, store: Store) -> None:
        """With a *store* that has no autocommit each begin() is a transaction as usual."""
        self._store = store
        self._connection: Connection | None = None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Give the connection; what is executed on it is committed at the end, or at once."""
        if not self._store.autocommit:
            with self._store.engine.begin() as connection:
                yield connection
            return
        if self._connection is None:
            self._connection = self._store.engine.connect()
        try:
            # Neither taken from the pool nor given back each time: PyMySQL would ask the server for
            # a COMMIT and a ROLLBACK.
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection without another question to the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
