"""What a database URL says, read once for the toolkit's own connections and for Postfix's maps.

    dialect[+driver]://[user[:password]@][host[:port][,host[:port]...]]/database[?key=value&...]

Hosts may also stand in the query, as SQLAlchemy and libpq have them: `?host=a,b&port=1,2` and
`?host=a:1&host=b:2`; sockets as `?host=/directory` (PostgreSQL) and `?unix_socket=/path` (MySQL).
Everything but the dialect may be percent-encoded. See "Connection URIs" in libpq's manual and
"Engine Configuration" in SQLAlchemy's.
"""

import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import parse_qs, unquote

# Postfix splits hosts at blanks and commas, and a unix socket's path at its last colon.
_SOCKET: Final = re.compile(r"(?:unix:)?(/[^\s,:\0]*)")
_HOST: Final = re.compile(
    r"(?:inet:)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?))"
    r"(?::([0-9]{1,5}))?",
    re.ASCII,
)
_URL: Final = re.compile(
    r"([a-z0-9+]+)://(?:([^/?]*)@)?([^/?@]*)(?:/([^?]*))?(?:\?(.*))?", re.DOTALL
)
_WHERE: Final = ("host", "port", "unix_socket")


@dataclass(frozen=True)
class Endpoint:
    """Where a database listens: a host, perhaps with a port, or the path of a unix socket."""

    host: str = ""
    port: int | None = None
    socket: str = ""

    def __str__(self) -> str:
        """Return it as an administrator writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.socket or (f"{host}:{self.port}" if self.port else host)


@dataclass(frozen=True)
class DatabaseURL:
    """A URL's parts, decoded. Without *places*: where the client library looks.

    *port* is that of the places that have none of their own. *options* is the query without what
    says where, the last value of each key.
    """

    driver: str
    places: tuple[Endpoint, ...]
    port: int | None
    user: str
    password: str = field(repr=False)
    database: str
    options: dict[str, str] = field(repr=False)


def read_url(text: str) -> DatabaseURL:
    """Return the parts of *text*. Raise ValueError that says what is expected."""
    found = _URL.fullmatch(text)
    if not found:
        raise ValueError("a URL dialect://user:password@host:port/database")
    driver, account, authority, database, query = (part or "" for part in found.groups())
    user, _, password = account.partition(":")
    named = parse_qs(query, keep_blank_values=True)
    places, port = _places(authority, named)
    options = {key: values[-1] for key, values in named.items() if key not in _WHERE}
    return DatabaseURL(
        driver,
        places,
        port,
        unquote(user) or options.pop("user", ""),
        unquote(password) or options.pop("password", ""),
        unquote(database),
        options,
    )


def _places(authority: str, query: dict[str, list[str]]) -> tuple[tuple[Endpoint, ...], int | None]:
    """Return the places, each with its own port where it has one, and the port of the others.

    A query's hosts count instead of the authority's, as they do for the drivers; the port of a
    single host there is theirs.
    """
    listed = [
        read_endpoint(unquote(part)) for part in authority.split(",") if part and part[0] != ":"
    ]
    alone = re.fullmatch(r":([0-9]{1,5})", authority, re.ASCII)
    port = int(alone[1]) if alone else None
    if authority.startswith(":") and not alone:
        raise ValueError("a port of 1 to 65535 behind the host")
    named = [
        read_endpoint(host)
        for value in query.get("unix_socket") or query.get("host") or []
        for host in value.split(",")
        if host
    ]
    if named:
        port = listed[0].port if len(listed) == 1 else port
        listed = named
    ports = [part for value in query.get("port", []) for part in value.split(",")]
    if ports:
        if any(place.port for place in listed) or len(ports) not in (1, len(listed)):
            raise ValueError("one port for all hosts, or one for each of them")
        numbers = [_port(part) if part else None for part in ports]
        if len(numbers) == 1:
            port = numbers[0]
        else:
            listed = [
                Endpoint(place.host, number, place.socket)
                for place, number in zip(listed, numbers, strict=True)
            ]
    return tuple(listed), port


def read_endpoint(text: str) -> Endpoint:
    """Return where *text* points to. Raise ValueError when it is no host, port or socket."""
    if match := _SOCKET.fullmatch(text):
        return Endpoint(socket=match[1])
    if match := _HOST.fullmatch(text):
        host = str(IPv6Address(match[1])) if match[1] else match[2]
        return Endpoint(host, _port(match[3]) if match[3] else None)
    try:
        # A zone after % could hold anything.
        return Endpoint(str(IPv6Address(text.replace("%", "zone"))))
    except ValueError:
        raise ValueError(
            'hosts such as "db.example.org", "192.0.2.1:5432", "[2001:db8::1]:5432" or "/path"'
        ) from None


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", text, re.ASCII) or not 1 <= int(text) <= 65535:  # noqa: PLR2004
        raise ValueError("a port of 1 to 65535 behind the host")
    return int(text)
