"""How Postfix reaches the database: hosts and account, from [postfix] and the database's URL."""

from dataclasses import dataclass
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.config.database_url import Endpoint, read_endpoint, read_url
from popbsmtp_wrap.config.passwords import masked, read_password
from popbsmtp_wrap.errors import ConfigError

_FORMS: Final = (
    'a host such as "db.example.org", "192.0.2.1:5432", "[2001:db8::1]:5432" or "unix:/path"'
)
# What sends the client library elsewhere, to a place that a map cannot name.
_ELSEWHERE: Final = ("service", "servicefile", "read_default_file", "read_default_group")


@dataclass(frozen=True, repr=False)
class Account:
    """How Postfix reaches the database. Without *places*: where the client library looks."""

    places: tuple[Endpoint, ...]
    port: int | None
    user: str
    password: str
    database: str
    options: dict[str, str]


def postfix_account(settings: Settings) -> Account:
    """Return Postfix's way to the database: [postfix], and where that is silent the URL.

    Raise ConfigError when a host cannot be understood or a password file cannot be read.
    """
    url = read_url(settings.database.url)
    if settings.postfix.hosts:
        places = tuple(place_of(host, "postfix.hosts") for host in settings.postfix.hosts)
    else:
        places = url.places
        if found := [key for key in _ELSEWHERE if key in url.options]:
            raise ConfigError(
                f"postfix.hosts: Postfix does not read {found[0]}= of database.url;"
                f" expected {_FORMS}"
            )
    if settings.postfix.user:
        user, password = settings.postfix.user, ""
    else:
        user = url.user
        password = url.password
        if settings.database.password_file and not settings.postfix.password_file:
            password = read_password(settings.database.password_file)
    if settings.postfix.password_file:
        password = read_password(settings.postfix.password_file)
    port = url.port or (url.places[0].port if len(url.places) == 1 else None)
    return Account(places, port, user, password, url.database, url.options)


def place_of(text: str, key: str) -> Endpoint:
    """Return where *text* points to. Raise ConfigError, naming *key*, when it is no host."""
    try:
        return read_endpoint(text)
    except ValueError:
        raise ConfigError(f"{key}: found {masked(text)!r}, expected {_FORMS}") from None
