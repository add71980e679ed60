"""Bound every wait for PostgreSQL on the client's side.

A stopped server keeps its connections; no setting of the server helps then, and libpq waits for
ever once connected. PyMySQL and sqlite3 have time-outs of their own.
"""

import select
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine


def bound_waits(engine: Engine, answer_s: float) -> None:
    """Make connections of a psycopg2 *engine* wait at most *answer_s* seconds for any answer."""
    if engine.dialect.driver != "psycopg2":
        return

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
