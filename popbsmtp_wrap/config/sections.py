"""The sections of popbsmtp.toml as frozen dataclasses: keys with their defaults and meanings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from popbsmtp_wrap.config import parsers
from popbsmtp_wrap.config.parsers import Network, Parse, dialect_of
from popbsmtp_wrap.errors import BadValueError
from popbsmtp_wrap.logs.site_pattern import SitePattern, site_patterns

# A value as TOML has it.
Written = str | int | bool | Sequence[str] | Mapping[str, Sequence[str]]


def setting(written: Written, parse: Parse, meaning: str, *, secret: bool = False) -> Any:
    """Return a field of a section.

    *written* is the default as it would stand in popbsmtp.toml, *parse* reads a value, and
    *meaning* is the sentence that the reference prints (reference.py).
    """
    more = {"written": written, "parse": parse, "meaning": meaning, "secret": secret}
    return field(default=parse(written), repr=not secret, metadata=more)


@dataclass(frozen=True)
class Database:
    """[database]; connect_timeout in seconds."""

    url: str = setting(
        "sqlite:////var/lib/popbsmtp/popbsmtp.db",
        parsers.url,
        "The database: postgresql://user@host/database, mysql:// (MariaDB, too) or sqlite:///.",
        secret=True,
    )
    password_file: str = setting(
        "", parsers.optional_absolute, "A file whose first line is the password."
    )
    table: str = setting("popbsmtp", parsers.identifier, "The table that holds the logins.")
    address_column: str = setting("address", parsers.identifier, "The client's IP address, a key.")
    last_seen_column: str = setting(
        "last_seen", parsers.identifier, "The time of its last login; Postfix asks for its age."
    )
    first_seen_column: str = setting(
        "first_seen",
        parsers.optional_identifier,
        'The time of its first login. "" leaves the column out, here and in the next two.',
    )
    user_column: str = setting("username", parsers.optional_identifier, "Who logged in last.")
    service_column: str = setting(
        "service", parsers.optional_identifier, "The service of that login, such as imap."
    )
    connect_timeout: float = setting(
        "2s",
        parsers.between(0.1, 60, 'a duration from "0.1s" to "60s"'),
        "How long to wait for a connection, and for each answer to a login.",
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
        [],
        parsers.list_of(parsers.network, 'a list of networks such as ["192.0.2.0/24"]'),
        'Logins from these networks are not recorded: ["192.0.2.0/24", "2001:db8::/32"].',
    )
    postfix_mynetworks: bool = setting(
        written=True,
        parse=parsers.boolean,
        meaning="Nor are logins from Postfix's mynetworks, which may relay anyway.",
    )
    own_addresses: bool = setting(
        written=True,
        parse=parsers.boolean,
        meaning="Nor are logins from this machine's own addresses and its default gateways.",
    )


@dataclass(frozen=True)
class Wrapper:
    """[wrapper]; wait and linger in seconds, linger 0 for an end at once."""

    # Dovecot gives up after 60 s (lib-master/master-login.h).
    wait: float = setting(
        "2s",
        parsers.between(0, 50, 'a duration from 0 to "50s"'),
        "A mailbox opens after this long at the latest, whether its login is recorded or not.",
    )
    linger: float = setting(
        "10m",
        parsers.between(0, 86400, 'a duration from 0 to "24h"'),
        "A recorder that a login has started stays for this long after the last one; 0 for an end"
        " at once.",
    )


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

    socket: str = setting(
        "/run/popbsmtp/login.sock",
        parsers.socket_path,
        "popbsmtp-wrap and the commands connect to popbsmtp serve here.",
    )
    postlogin: tuple[PostLogin, ...] = setting(
        [], _postlogin, "Sockets for Dovecot's post-login services: see postlogin below."
    )
    socket_mode: int = setting("0660", parsers.mode, "The permissions of these sockets.")
    socket_owner: str = setting(
        "", parsers.text, 'Their owner; "" for the user that the recorder runs as.'
    )
    socket_group: str = setting(
        "", parsers.text, 'Their group; "" for the primary group of that user.'
    )
    user: str = setting(
        "popbsmtp",
        parsers.text,
        'popbsmtp serve becomes this user when root starts it; "" stays root.',
    )
    users: tuple[str, ...] = setting(
        [],
        parsers.list_of(parsers.text, 'a list of users such as ["dovecot"]'),
        "Who may connect besides root and the recorder's own user.",
    )
    refresh: float | None = setting(
        "",
        parsers.refresh,
        'Further logins from an address are not written within this time; "" for grace / 60.',
    )
    # Dovecot gives up after 60 s (lib-master/master-login.h).
    reply_timeout: float = setting(
        "1s",
        parsers.between(0.1, 50, 'a duration from "0.1s" to "50s"'),
        "A post-login socket replies after this long at the latest, so that the mailbox opens.",
    )
    spool: str = setting(
        "/var/spool/popbsmtp",
        parsers.absolute,
        "A directory, mode 0700, in which logins wait while the database is down.",
    )
    spool_size: int = setting("64M", parsers.size, "How much the spool may hold.")
    # See recorder/shared_addresses.py.
    shared_users: int = setting(
        20,
        parsers.count(1, 1000),
        "An address from which more users than this log in within grace is reported.",
    )
    refuse_shared: bool = setting(
        written=False,
        parse=parsers.boolean,
        meaning="Whether logins from such an address are refused, too.",
    )
    log: str = setting(
        "stderr",
        parsers.one_of("stderr", "syslog"),
        'Where events are written: "stderr", or "syslog" with facility mail.',
    )

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths of all sockets."""
        return (self.socket, *(place.path for place in self.postlogin))


@dataclass(frozen=True)
class Postfix:
    """[postfix]: how Postfix reaches the database where that differs from the URL."""

    hosts: tuple[str, ...] = setting(
        [],
        parsers.list_of(parsers.text, 'a list of hosts such as ["127.0.0.1:5432"]'),
        'Where Postfix reaches the database if not as in url: ["127.0.0.1:5432"].',
    )
    user: str = setting("", parsers.text, "The read-only account that Postfix uses.")
    password_file: str = setting(
        "", parsers.optional_absolute, "A file whose first line is that account's password."
    )


_COURIER: Final = ("imap", "imap-ssl", "pop", "pop-ssl")


@dataclass(frozen=True)
class Watch:
    """[watch]; max_session in seconds, pattern holds the tables [[watch.pattern]]."""

    files: tuple[str, ...] = setting(
        ["/var/log/mail.log"],
        parsers.list_of(parsers.log_file, 'a list of log files such as ["/var/log/mail.log"]'),
        'The mail logs that popbsmtp watch follows; "-" is standard input.',
    )
    servers: tuple[str, ...] = setting(
        [],
        parsers.list_of(parsers.server, 'a list of servers such as ["dovecot"]'),
        'Only logins to these servers count, [] for all: ["dovecot", "courier"].',
    )
    journal: bool = setting(
        written=False,
        parse=parsers.boolean,
        meaning="Whether the systemd journal is followed as well.",
    )
    # The units of Debian's packages.
    journal_units: tuple[tuple[str, tuple[str, ...]], ...] = setting(
        {
            "dovecot": ["dovecot.service"],
            "courier": [f"courier-{name}.service" for name in _COURIER],
            "cyrus": ["cyrus-imapd.service"],
        },
        parsers.units,
        "The units whose journal entries are believed to be logins to a server.",
    )
    state: str = setting(
        "/var/lib/popbsmtp/watch",
        parsers.absolute,
        "A directory that remembers how far each log has been read.",
    )
    # A week: what is open for longer has lost its logout.
    max_session: float = setting(
        "12h",
        parsers.between(0, 7 * 86400, 'a duration from 0 to "168h"'),
        "A session without a logout counts as open for this long; 0 to renew nothing.",
    )
    pattern: tuple[SitePattern, ...] = setting(
        [], site_patterns, "Patterns of your own for the lines of other servers: see logs.md."
    )
    # See logs/forgery.py.
    forgeable: str = setting(
        "refuse",
        parsers.one_of("refuse", "record"),
        'What to do with logins of a log into which outsiders can write lines; or "record".',
    )


@dataclass(frozen=True)
class Sessions:
    """[sessions]; renew in seconds, 0 for never, None for a third of grace, see Settings.renew."""

    renew: float | None = setting(
        "",
        parsers.renew,
        'How often the addresses of open sessions are renewed, 0 for never; "" for grace / 3.',
    )
    # () for doveadm where packages put it.
    doveadm: tuple[str, ...] = setting(
        "",
        parsers.command,
        'The program that lists them: "/usr/bin/doveadm", or a list with its first arguments.',
    )
