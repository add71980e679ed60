"""Bound every wait for a server on the client's side.

A stopped server keeps its connections, and the kernel goes on accepting new ones; no setting of
the server helps then. SQLite has a time-out of its own.
"""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine


def bound_waits(engine: Engine, connect_s: float, answer_s: float) -> None:
    """Make new connections of *engine* wait at most *connect_s*, then *answer_s* per answer."""
    if engine.dialect.driver == "psycopg2":
        _bound_psycopg2(engine, connect_s, answer_s)
    elif engine.dialect.driver == "pymysql":
        _bound_pymysql(engine, connect_s)


def limit_answers(connection: Any, driver: str, answer_s: float) -> bool:
    """Make a driver's *connection* wait at most *answer_s* from now on; False if there is no way.

    With SQLite it is the wait for another writer; nothing bounds that for a disk.
    """
    if driver == "psycopg2":
        connection.limit_s = answer_s
    elif driver == "pymysql":
        connection._read_timeout = connection._write_timeout = answer_s  # noqa: SLF001
    elif driver == "pysqlite":
        connection.execute(f"PRAGMA busy_timeout = {answer_s * 1000:.0f}")
    else:
        return False
    return True


def _bound_pymysql(engine: Engine, connect_s: float) -> None:
    """Wait for the server's greeting as long as for a connection.

    PyMySQL's connect_timeout ends with the TCP handshake, which the kernel does by itself.
    """

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        arguments = {**kwargs, "read_timeout": connect_s, "write_timeout": connect_s}
        if any(name.startswith(("ssl", "read_default")) for name in kwargs):
            connection = dialect.connect(*args, **arguments)
        else:
            connection = dialect.connect(*args, **arguments, ssl_disabled=True, defer_connect=True)
            # Before 1.1.1 PyMySQL uses TLS only where it is told to.
            if "unix_socket" not in kwargs and hasattr(connection, "_ssl_required"):
                connection.ssl, connection.ctx = True, _tls_if_offered()
            connection.connect()
        connection._read_timeout = kwargs["read_timeout"]  # noqa: SLF001 - no other way
        connection._write_timeout = kwargs["write_timeout"]  # noqa: SLF001
        return connection


def _tls_if_offered() -> ssl.SSLContext:
    """Return what PyMySQL makes by itself, without the certificates that it does not check.

    Reading those costs 17 ms for each connection (bench/records.py).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _bound_psycopg2(engine: Engine, connect_s: float, answer_s: float) -> None:
    """Wait in Python: libpq waits for ever once connected."""
    import psycopg2
    from psycopg2 import extensions

    # There is one callback per process, so the limit travels with the connection.
    extensions.set_wait_callback(_wait)

    class Bounded(extensions.connection):
        limit_s = connect_s

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        trouble = psycopg2.OperationalError("no host to connect to")
        for place in _places(kwargs):
            try:
                connection = psycopg2.connect(*args, **place, connection_factory=Bounded)
            except psycopg2.OperationalError as error:
                trouble = error
            else:
                connection.limit_s = answer_s
                return connection
        raise trouble


def _wait(connection: Any) -> None:
    """Wait for *connection*, see psycopg2's manual, "Support for coroutine libraries".

    Raise OperationalError after its limit_s; a connection that is not ours has none.
    """
    import psycopg2
    from psycopg2 import extensions

    limit_s: float | None = getattr(connection, "limit_s", None)
    deadline = None if limit_s is None else time.monotonic() + limit_s
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        poll = select.poll()
        poll.register(
            connection.fileno(),
            select.POLLIN if state == extensions.POLL_READ else select.POLLOUT,
        )
        left_s = None if deadline is None else max(0, deadline - time.monotonic())
        if not poll.poll(None if left_s is None else left_s * 1000):
            raise psycopg2.OperationalError(f"no answer within {limit_s:g} s")


def _places(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield *arguments* for one address at a time.

    libpq goes on from an address that is silent to the next only where it does the waiting.
    """
    hosts = str(arguments.get("host") or "").split(",")
    ports = str(arguments.get("port") or "").split(",")
    for number, host in enumerate(hosts):
        place = dict(arguments)
        if len(hosts) > 1:
            place["host"] = host
            place["port"] = ports[number] if len(ports) == len(hosts) else ports[0]
        found: list[Any] = []
        if host and not host.startswith("/") and "hostaddr" not in arguments:
            # A name that does not resolve is libpq's to report.
            with contextlib.suppress(OSError):
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        for address in dict.fromkeys(entry[4][0] for entry in found):
            yield {**place, "hostaddr": address}
        if not found:
            yield place
