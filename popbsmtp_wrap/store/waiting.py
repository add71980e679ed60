"""Bound every wait for a server on the client's side.

A stopped server keeps its connections, and the kernel goes on accepting new ones; no setting of
the server helps then. sqlite3 has a time-out of its own.
"""

import select
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine


def bound_waits(engine: Engine, connect_s: float, answer_s: float) -> None:
    """Make new connections of *engine* wait at most *connect_s*, then *answer_s* per answer."""
    if engine.dialect.driver == "psycopg2":
        _bound_psycopg2(engine, answer_s)
    elif engine.dialect.driver == "pymysql":
        _bound_pymysql(engine, connect_s)


def _bound_pymysql(engine: Engine, connect_s: float) -> None:
    """Wait for the server's greeting as long as for a connection.

    PyMySQL's connect_timeout ends with the TCP handshake, which the kernel does by itself.
    """

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        connect_only = {"read_timeout": connect_s, "write_timeout": connect_s}
        connection = dialect.connect(*args, **{**kwargs, **connect_only})
        connection._read_timeout = kwargs["read_timeout"]  # noqa: SLF001 - no other way
        connection._write_timeout = kwargs["write_timeout"]  # noqa: SLF001
        return connection


def _bound_psycopg2(engine: Engine, answer_s: float) -> None:
    """Wait in Python: libpq waits for ever once connected."""
    import psycopg2
    from psycopg2 import extensions

    def wait(connection: Any) -> None:
        """See psycopg2's manual, "Support for coroutine libraries"."""
        while True:
            state = connection.poll()
            if state == extensions.POLL_OK:
                return
            poll = select.poll()
            poll.register(
                connection.fileno(),
                select.POLLIN if state == extensions.POLL_READ else select.POLLOUT,
            )
            if not poll.poll(answer_s * 1000):
                raise psycopg2.OperationalError(f"no answer within {answer_s:g} s")

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        # Connecting stays libpq's: only its own loop knows connect_timeout and several hosts.
        extensions.set_wait_callback(None)
        try:
            return psycopg2.connect(*args, **kwargs)
        finally:
            extensions.set_wait_callback(wait)
