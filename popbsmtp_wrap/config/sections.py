"""The sections of popbsmtp.toml as frozen dataclasses; every default stands here."""

from dataclasses import dataclass, field
from typing import Any, Final

from popbsmtp_wrap.config import parsers
from popbsmtp_wrap.config.parsers import Network, Parse, dialect_of
from popbsmtp_wrap.errors import BadValueError
from popbsmtp_wrap.logs.site_pattern import SitePattern, site_patterns


def setting(default: Any, parse: Parse, *, secret: bool = False) -> Any:
    """Return a field of a section, whose value in the file is read by *parse*."""
    return field(default=default, repr=not secret, metadata={"parse": parse, "secret": secret})


@dataclass(frozen=True)
class Database:
    """[database]; connect_timeout in seconds."""

    url: str = setting("sqlite:////var/lib/popbsmtp/popbsmtp.db", parsers.url, secret=True)
    password_file: str = setting("", parsers.optional_absolute)
    table: str = setting("popbsmtp", parsers.identifier)
    address_column: str = setting("address", parsers.identifier)
    last_seen_column: str = setting("last_seen", parsers.identifier)
    first_seen_column: str = setting("first_seen", parsers.optional_identifier)
    user_column: str = setting("username", parsers.optional_identifier)
    service_column: str = setting("service", parsers.optional_identifier)
    connect_timeout: float = setting(
        2.0, parsers.between(0.1, 60, 'a duration from "0.1s" to "60s"')
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns, "" for what is left out."""
        return (
            self.address_column,
            self.last_seen_column,
            self.first_seen_column,
            self.user_column,
            self.service_column,
        )

    @property
    def dialect(self) -> str:
        """postgresql, mysql or sqlite."""
        name = dialect_of(self.url)
        return "mysql" if name == "mariadb" else name


@dataclass(frozen=True)
class Ignore:
    """[ignore]."""

    networks: tuple[Network, ...] = setting(
        (), parsers.list_of(parsers.network, 'a list of networks such as ["192.0.2.0/24"]')
    )
    postfix_mynetworks: bool = setting(default=True, parse=parsers.boolean)
    own_addresses: bool = setting(default=True, parse=parsers.boolean)


@dataclass(frozen=True)
class Wrapper:
    """[wrapper]; wait in seconds."""

    # Dovecot gives up after 60 s (lib-master/master-login.h).
    wait: float = setting(2.0, parsers.between(0, 50, 'a duration from 0 to "50s"'))


@dataclass(frozen=True)
class PostLogin:
    """[[recorder.postlogin]]: a socket that speaks Dovecot's script-login protocol."""

    path: str
    service: str


def _postlogin(value: Any) -> tuple[PostLogin, ...]:
    what = "tables [[recorder.postlogin]] with path and service alone"
    if not isinstance(value, list):
        raise BadValueError(what)
    places = []
    for table in value:
        if not isinstance(table, dict) or set(table) != {"path", "service"}:
            raise BadValueError(what, table)
        path = parsers.socket_path(table["path"], table["path"])
        places.append(PostLogin(path, parsers.service(table["service"])))
    return tuple(places)


@dataclass(frozen=True)
class Recorder:
    """[recorder]; refresh and reply_timeout in seconds, spool_size in bytes.

    refresh is None for a sixtieth of grace, see Settings.refresh.
    """

    socket: str = setting("/run/popbsmtp/login.sock", parsers.socket_path)
    postlogin: tuple[PostLogin, ...] = setting((), _postlogin)
    socket_mode: int = setting(0o660, parsers.mode)
    socket_owner: str = setting("", parsers.text)
    socket_group: str = setting("", parsers.text)
    user: str = setting("popbsmtp", parsers.text)
    users: tuple[str, ...] = setting(
        (), parsers.list_of(parsers.text, 'a list of users such as ["dovecot"]')
    )
    refresh: float | None = setting(None, parsers.refresh)
    # Dovecot gives up after 60 s (lib-master/master-login.h).
    reply_timeout: float = setting(1.0, parsers.between(0.1, 50, 'a duration from "0.1s" to "50s"'))
    spool: str = setting("/var/spool/popbsmtp", parsers.absolute)
    spool_size: int = setting(64 << 20, parsers.size)
    # More users of one address within grace are reported, see recorder/shared_addresses.py.
    shared_users: int = setting(20, parsers.count(1, 1000))
    refuse_shared: bool = setting(default=False, parse=parsers.boolean)
    log: str = setting("stderr", parsers.one_of("stderr", "syslog"))

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths of all sockets."""
        return (self.socket, *(place.path for place in self.postlogin))


@dataclass(frozen=True)
class Postfix:
    """[postfix]: how Postfix reaches the database where that differs from the URL."""

    hosts: tuple[str, ...] = setting(
        (), parsers.list_of(parsers.text, 'a list of hosts such as ["127.0.0.1:5432"]')
    )
    user: str = setting("", parsers.text)
    password_file: str = setting("", parsers.optional_absolute)


_COURIER: Final = ("imap", "imap-ssl", "pop", "pop-ssl")


@dataclass(frozen=True)
class Watch:
    """[watch]; max_session in seconds, pattern holds the tables [[watch.pattern]]."""

    files: tuple[str, ...] = setting(
        ("/var/log/mail.log",),
        parsers.list_of(parsers.log_file, 'a list of log files such as ["/var/log/mail.log"]'),
    )
    servers: tuple[str, ...] = setting(
        (), parsers.list_of(parsers.server, 'a list of servers such as ["dovecot"]')
    )
    journal: bool = setting(default=False, parse=parsers.boolean)
    # The units of Debian's packages.
    journal_units: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        (
            ("dovecot", ("dovecot.service",)),
            ("courier", tuple(f"courier-{name}.service" for name in _COURIER)),
            ("cyrus", ("cyrus-imapd.service",)),
        ),
        parsers.units,
    )
    state: str = setting("/var/lib/popbsmtp/watch", parsers.absolute)
    # A week: what is open for longer has lost its logout.
    max_session: float = setting(
        12 * 3600.0, parsers.between(0, 7 * 86400, 'a duration from 0 to "168h"')
    )
    pattern: tuple[SitePattern, ...] = setting((), site_patterns)
    # What to do with logins of a file that outsiders may write lines into (logs/forgery.py).
    forgeable: str = setting("refuse", parsers.one_of("refuse", "record"))


@dataclass(frozen=True)
class Sessions:
    """[sessions]; renew in seconds, 0 for never, None for a third of grace, see Settings.renew."""

    renew: float | None = setting(None, parsers.renew)
    # The command and its first arguments; () for doveadm where packages put it.
    doveadm: tuple[str, ...] = setting((), parsers.command)
