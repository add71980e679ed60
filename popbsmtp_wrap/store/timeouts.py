"""Bound every wait for a server on the client's side.

A stopped server keeps its connections, and the kernel goes on accepting new ones; no setting of
the server helps then. SQLite has a time-out of its own.
"""

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from popbsmtp_wrap.config.database_url import Endpoint
from popbsmtp_wrap.errors import ConfigError, PopbsmtpError, StoreUnavailableError
from popbsmtp_wrap.store.cancelling import cancel

BOUNDED: Final = ("psycopg2", "pymysql")
# How long a caller that has the time waits for a statement that is cancelled: a process that
# ends at once would take the request with it.
_CANCEL_S: Final = 0.3
_WAITS_FOR_CANCEL_S: Final = 0.5
# What PyMySQL lacks for caching_sha2_password without TLS, and for ed25519.
_PACKAGES: Final = ("cryptography", "pynacl")


def bound_waits(
    engine: Engine, connect_s: float, answer_s: float, url: str, places: Sequence[Endpoint] = ()
) -> None:
    """Make new connections of *engine* wait at most *connect_s*, then *answer_s* per answer.

    *url* stands for the database in messages. *places* are tried in their order; each gets an equal
    share of the time that is left.
    """
    if engine.dialect.driver == "psycopg2":
        _bound_psycopg2(engine, connect_s, answer_s, places)
    elif engine.dialect.driver == "pymysql":
        _bound_pymysql(engine, connect_s, url, places)


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


def _explaining(url: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Have a function that connects raise our errors for what no driver's error stands for."""

    def decorate(connect: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(connect)
        def explaining(dialect: Any, *arguments: Any) -> Any:
            try:
                return connect(dialect, *arguments)
            except dialect.dbapi.Error:
                raise
            except Exception as error:
                raise _not_of_the_driver(error, url) from error

        return explaining

    return decorate


def _not_of_the_driver(error: Exception, url: str) -> PopbsmtpError:
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, RuntimeError) and any(name in text.lower() for name in _PACKAGES):
        return ConfigError(
            f"{url}: {text}: the account's authentication needs it; run: pip install"
            " 'PyMySQL[rsa,ed25519]', or connect by TLS or a unix socket"
        )
    # A port or an option of the URL that is not valid, or a file that it names and cannot be read.
    if isinstance(error, TypeError | ValueError | LookupError | AttributeError):
        return ConfigError(f"{url}: {text}; correct the ports and options of database.url")
    if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
        return ConfigError(
            f"{url}: {text}; correct the files that database.url names (ssl_ca, ssl_cert, ssl_key)"
        )
    kind = type(error).__name__
    return StoreUnavailableError(f"{url}: {kind}: {text}; check the server and database.url")


def _bound_pymysql(engine: Engine, connect_s: float, url: str, places: Sequence[Endpoint]) -> None:
    """Wait for the server's greeting as long as for a connection.

    PyMySQL's connect_timeout ends with the TCP handshake, which the kernel does by itself.
    """

    @_explaining(url)
    def connect(dialect: Any, args: Any, kwargs: Any, limit_s: float) -> Any:
        arguments = {**kwargs, "read_timeout": limit_s, "write_timeout": limit_s}
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

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        if not places:
            return connect(dialect, args, kwargs, connect_s)
        from pymysql.err import OperationalError

        elsewhere = {k: v for k, v in kwargs.items() if k not in ("host", "port", "unix_socket")}
        troubles: list[tuple[int, str]] = []
        for place, limit_s in _shares(places, connect_s):
            named = {"unix_socket": place.socket, "host": place.host, "port": place.port}
            there = elsewhere | {key: value for key, value in named.items() if value}
            there["connect_timeout"] = max(1, limit_s)
            try:
                return connect(dialect, args, there, limit_s)
            except OperationalError as error:
                code, *text = error.args or (_NO_CONNECTION,)
                troubles.append((code, f"{place}: {' '.join(map(str, text))}"))
        # One that is only unreachable may come back and take the login.
        codes = [code for code, _ in troubles]
        code = _NO_CONNECTION if _NO_CONNECTION in codes else codes[-1]
        raise OperationalError(code, "; ".join(text for _, text in troubles))


# CR_CONN_HOST_ERROR
_NO_CONNECTION: Final = 2003


def _shares(places: Sequence[Endpoint], whole_s: float) -> Iterator[tuple[Endpoint, float]]:
    """Yield each place with the seconds that it may take."""
    end = time.monotonic() + whole_s
    for number, place in enumerate(places):
        left_s = max(0.0, end - time.monotonic())
        # The last one is always tried, even when a resolver took all the time.
        yield place, max(left_s / (len(places) - number), whole_s / len(places) / 4)


def _tls_if_offered() -> ssl.SSLContext:
    """Return what PyMySQL makes by itself, without the certificates that it does not check.

    Reading those costs 17 ms for each connection (bench/records.py).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _bound_psycopg2(
    engine: Engine, connect_s: float, answer_s: float, places: Sequence[Endpoint]
) -> None:
    """Wait in Python: libpq waits for ever once connected."""
    import psycopg2
    from psycopg2 import extensions

    # There is one callback per process, so the limit travels with the connection.
    extensions.set_wait_callback(_wait)

    class Bounded(extensions.connection):
        limit_s = connect_s

    @sa.event.listens_for(engine, "do_connect")
    def _connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        troubles: list[tuple[Endpoint, psycopg2.OperationalError]] = []
        # libpq asks the hosts twice then: first for a standby, then for whatever there is.
        prefers = kwargs.get("target_session_attrs") == "prefer-standby" and len(places) > 1
        for wanted in ("standby", "any") if prefers else (None,):
            more = {"target_session_attrs": wanted} if wanted else {}
            troubles.clear()
            for arguments, limit_s in _ways({**kwargs, **more}, places, connect_s):
                host = str(arguments.get("hostaddr") or arguments.get("host") or "")
                bounded = type("Bounded", (Bounded,), {"limit_s": limit_s})
                try:
                    connection = psycopg2.connect(*args, **arguments, connection_factory=bounded)
                except psycopg2.OperationalError as error:
                    troubles.append((Endpoint(host, arguments.get("port")), error))
                else:
                    connection.limit_s = answer_s
                    return connection
        if len(troubles) == 1:
            raise troubles[0][1]
        # libpq leaves out the host where it does not do the waiting.
        text = "; ".join(f"{place}: {str(error).strip()}" for place, error in troubles)
        raise psycopg2.OperationalError(text)


def _wait(connection: Any) -> None:
    """Wait for *connection*, see psycopg2's manual, "Support for coroutine libraries".

    Raise OperationalError after its limit_s; a connection that is not ours has none. The server
    then gets a moment to end what it does. Whatever it answers in that moment counts for nothing:
    a commit that waits for a synchronous standby succeeds when it is cancelled, on this server
    alone.
    """
    import psycopg2
    from psycopg2 import extensions

    limit_s: float | None = getattr(connection, "limit_s", None)
    deadline = None if limit_s is None else time.monotonic() + limit_s
    trouble: psycopg2.Error | None = None
    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            if trouble is not None:
                raise trouble
            return
        poll = select.poll()
        poll.register(
            connection.fileno(),
            select.POLLIN if state == extensions.POLL_READ else select.POLLOUT,
        )
        left_s = None if deadline is None else max(0, deadline - time.monotonic())
        if poll.poll(None if left_s is None else left_s * 1000):
            continue
        if trouble is None and limit_s is not None:
            trouble = psycopg2.OperationalError(f"no answer within {limit_s:g} s")
            cancel(connection)
            if limit_s >= _WAITS_FOR_CANCEL_S:
                deadline = time.monotonic() + _CANCEL_S
                continue
        raise trouble or psycopg2.OperationalError("no answer")


def _ways(
    arguments: Mapping[str, Any], places: Sequence[Endpoint], connect_s: float
) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield *arguments* for one address at a time, and the seconds that it may take.

    libpq goes on from an address that is silent to the next only where it does the waiting.
    """
    if not places:
        for there in _addresses(arguments):
            yield there, connect_s
        return
    for place, limit_s in _shares(places, connect_s):
        named = {"host": place.socket or place.host, "port": place.port}
        there = {key: value for key, value in named.items() if value}
        rest = {key: value for key, value in arguments.items() if key not in ("host", "port")}
        found = list(_addresses(rest | there))
        for way in found:
            yield way, limit_s / len(found)


def _addresses(arguments: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield *arguments* for each address of their host."""
    host = str(arguments.get("host") or "")
    found: list[Any] = []
    if host and not host.startswith("/") and "hostaddr" not in arguments:
        # A name that does not resolve is libpq's to report.
        with contextlib.suppress(OSError):
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    for address in dict.fromkeys(entry[4][0] for entry in found):
        yield {**arguments, "hostaddr": address}
    if not found:
        yield dict(arguments)
