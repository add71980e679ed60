"""The sections of popbsmtp.toml as frozen dataclasses; every default stands here."""

from dataclasses import dataclass, field
from typing import Any, Final

from popbsmtp_wrap import values
from popbsmtp_wrap.errors import BadValueError
from popbsmtp_wrap.own_pattern import OwnPattern, own_patterns
from popbsmtp_wrap.values import Network, Parse, dialect_of


def setting(default: Any, parse: Parse, *, secret: bool = False) -> Any:
    """Return a field of a section, whose value in the file is read by *parse*."""
    return field(default=default, repr=not secret, metadata={"parse": parse, "secret": secret})


@dataclass(frozen=True)
class Database:
    """[database]; connect_timeout in seconds."""

    url: str = setting("sqlite:////var/lib/popbsmtp/popbsmtp.db", values.url, secret=True)
    password_file: str = setting("", values.optional_absolute)
    table: str = setting("popbsmtp", values.identifier)
    address_column: str = setting("address", values.identifier)
    last_seen_column: str = setting("last_seen", values.identifier)
    first_seen_column: str = setting("first_seen", values.optional_identifier)
    user_column: str = setting("username", values.optional_identifier)
    service_column: str = setting("service", values.optional_identifier)
    connect_timeout: float = setting(
        2.0, values.between(0.1, 60, 'a duration from "0.1s" to "60s"')
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
        (), values.list_of(values.network, 'a list of networks such as ["192.0.2.0/24"]')
    )
    postfix_mynetworks: bool = setting(default=True, parse=values.boolean)
    own_addresses: bool = setting(default=True, parse=values.boolean)


@dataclass(frozen=True)
class Wrapper:
    """[wrapper]; wait in seconds."""

    # Dovecot gives up after 60 s (lib-master/master-login.h).
    wait: float = setting(2.0, values.between(0, 50, 'a duration from 0 to "50s"'))


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
        path = values.socket_path(table["path"], table["path"])
        places.append(PostLogin(path, values.service(table["service"])))
    return tuple(places)


@dataclass(frozen=True)
class Recorder:
    """[recorder]; refresh and reply_timeout in seconds, spool_size in bytes.

    refresh is None for a sixtieth of grace, see Settings.refresh.
    """

    socket: str = setting("/run/popbsmtp/login.sock", values.socket_path)
    postlogin: tuple[PostLogin, ...] = setting((), _postlogin)
    socket_mode: int = setting(0o660, values.mode)
    socket_owner: str = setting("", values.text)
    socket_group: str = setting("", values.text)
    user: str = setting("popbsmtp", values.text)
    users: tuple[str, ...] = setting(
        (), values.list_of(values.text, 'a list of users such as ["dovecot"]')
    )
    refresh: float | None = setting(None, values.refresh)
    # Dovecot gives up after 60 s (lib-master/master-login.h).
    reply_timeout: float = setting(1.0, values.between(0.1, 50, 'a duration from "0.1s" to "50s"'))
    spool: str = setting("/var/spool/popbsmtp", values.absolute)
    spool_size: int = setting(64 << 20, values.size)
    # More users of one address within grace are reported, see recorder/shared_addresses.py.
    shared_users: int = setting(20, values.count(1, 1000))
    refuse_shared: bool = setting(default=False, parse=values.boolean)
    log: str = setting("stderr", values.one_of("stderr", "syslog"))

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths of all sockets."""
        return (self.socket, *(place.path for place in self.postlogin))


@dataclass(frozen=True)
class Postfix:
    """[postfix]: how Postfix reaches the database where that differs from the URL."""

    hosts: tuple[str, ...] = setting(
        (), values.list_of(values.text, 'a list of hosts such as ["127.0.0.1:5432"]')
    )
    user: str = setting("", values.text)
    password_file: str = setting("", values.optional_absolute)


_COURIER: Final = ("imap", "imap-ssl", "pop", "pop-ssl")


@dataclass(frozen=True)
class Watch:
    """[watch]; max_session in seconds, pattern holds the tables [[watch.pattern]]."""

    files: tuple[str, ...] = setting(
        ("/var/log/mail.log",),
        values.list_of(values.log_file, 'a list of log files such as ["/var/log/mail.log"]'),
    )
    servers: tuple[str, ...] = setting(
        (), values.list_of(values.server, 'a list of servers such as ["dovecot"]')
    )
    journal: bool = setting(default=False, parse=values.boolean)
    # The units of Debian's packages.
    journal_units: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        (
            ("dovecot", ("dovecot.service",)),
            ("courier", tuple(f"courier-{name}.service" for name in _COURIER)),
            ("cyrus", ("cyrus-imapd.service",)),
        ),
        values.units,
    )
    state: str = setting("/var/lib/popbsmtp/watch", values.absolute)
    # A week: what is open for longer has lost its logout.
    max_session: float = setting(
        12 * 3600.0, values.between(0, 7 * 86400, 'a duration from 0 to "168h"')
    )
    pattern: tuple[OwnPattern, ...] = setting((), own_patterns)
    # What to do with logins of a file that outsiders may write lines into (logs/forging.py).
    forgeable: str = setting("refuse", values.one_of("refuse", "record"))


@dataclass(frozen=True)
class Sessions:
    """[sessions]; renew in seconds, 0 for never, None for a third of grace, see Settings.renew."""

    renew: float | None = setting(None, values.renew)
    # The command and its first arguments; () for doveadm where packages put it.
    doveadm: tuple[str, ...] = setting((), values.command)
