"""How Postfix reaches the database: hosts and account, from [postfix] and the database's URL."""

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.passwords import masked, read_password

_FORMS: Final = (
    'a host such as "db.example.org", "192.0.2.1:5432", "[2001:db8::1]:5432" or "unix:/path"'
)
# Postfix splits hosts at blanks and commas, and a unix socket's path at its last colon.
_SOCKET: Final = re.compile(r"(?:unix:)?(/[^\s,:\0]*)")
_HOST: Final = re.compile(
    r"(?:inet:)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?))"
    r"(?::([0-9]{1,5}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Place:
    """Where a database listens: a host, perhaps with a port, or the path of a unix socket."""

    host: str = ""
    port: int | None = None
    socket: str = ""


@dataclass(frozen=True, repr=False)
class Account:
    """How Postfix reaches the database. Without *places*: where the client library looks."""

    places: tuple[Place, ...]
    port: int | None
    user: str
    password: str
    database: str
    options: dict[str, str]


def postfix_account(settings: Settings) -> Account:
    """Return Postfix's way to the database: [postfix], and where that is silent the URL.

    Raise ConfigError when a host cannot be understood or a password file cannot be read.
    """
    url = urlsplit(settings.database.url)
    query = parse_qs(url.query)
    options = {key: values[-1] for key, values in query.items()}
    if settings.postfix.hosts:
        places = tuple(place_of(host, "postfix.hosts") for host in settings.postfix.hosts)
    else:
        places = _places_of_url(url.hostname, query)
    port = url.port
    if port is None and re.fullmatch("[0-9]{1,5}", options.get("port", ""), re.ASCII):
        port = int(options["port"])
    if settings.postfix.user:
        user, password = settings.postfix.user, ""
    else:
        user = unquote(url.username or "") or options.get("user", "")
        password = unquote(url.password or "") or options.get("password", "")
        if settings.database.password_file and not settings.postfix.password_file:
            password = read_password(settings.database.password_file)
    if settings.postfix.password_file:
        password = read_password(settings.postfix.password_file)
    return Account(places, port, user, password, unquote(url.path[1:]), options)


def _places_of_url(hostname: str | None, query: dict[str, list[str]]) -> tuple[Place, ...]:
    """Return the places of a URL; what the query says counts, as it does for the drivers."""
    named = [
        host
        for value in query.get("unix_socket") or query.get("host") or []
        for host in value.split(",")
        if host
    ]
    if not named and hostname:
        named = [unquote(hostname)]
    return tuple(place_of(host, "database.url") for host in named)


def place_of(text: str, key: str) -> Place:
    """Return where *text* points to. Raise ConfigError, naming *key*, when it is no host."""
    if match := _SOCKET.fullmatch(text):
        return Place(socket=match[1])
    try:
        if match := _HOST.fullmatch(text):
            host = str(IPv6Address(match[1])) if match[1] else match[2]
            return Place(host, int(match[3]) if match[3] else None)
        # A zone after % could hold anything.
        return Place(str(IPv6Address(text.replace("%", "zone"))))
    except ValueError:
        raise ConfigError(f"{key}: found {masked(text)!r}, expected {_FORMS}") from None
