"""popbsmtp.toml as frozen Settings; every default stands here."""

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar

from popbsmtp_wrap import values
from popbsmtp_wrap.database_url import read_url
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.own_pattern import OwnPattern, own_patterns
from popbsmtp_wrap.passwords import masked
from popbsmtp_wrap.values import BadValueError, Network, Parse, dialect_of

DEFAULT_PATH: Final = "/etc/popbsmtp/popbsmtp.toml"
Section = TypeVar("Section")


def _setting(default: Any, parse: Parse, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse, "secret": secret})


@dataclass(frozen=True)
class Database:
    """[database]; connect_timeout in seconds."""

    url: str = _setting("sqlite:////var/lib/popbsmtp/popbsmtp.db", values.url, secret=True)
    password_file: str = _setting("", values.optional_absolute)
    table: str = _setting("popbsmtp", values.identifier)
    address_column: str = _setting("address", values.identifier)
    last_seen_column: str = _setting("last_seen", values.identifier)
    first_seen_column: str = _setting("first_seen", values.optional_identifier)
    user_column: str = _setting("username", values.optional_identifier)
    service_column: str = _setting("service", values.optional_identifier)
    connect_timeout: float = _setting(
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

    networks: tuple[Network, ...] = _setting(
        (), values.list_of(values.network, 'a list of networks such as ["192.0.2.0/24"]')
    )
    postfix_mynetworks: bool = _setting(default=True, parse=values.boolean)
    own_addresses: bool = _setting(default=True, parse=values.boolean)


@dataclass(frozen=True)
class Wrapper:
    """[wrapper]; wait in seconds."""

    # Dovecot gives up after 60 s (lib-master/master-login.h).
    wait: float = _setting(2.0, values.between(0, 50, 'a duration from 0 to "50s"'))


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

    socket: str = _setting("/run/popbsmtp/login.sock", values.socket_path)
    postlogin: tuple[PostLogin, ...] = _setting((), _postlogin)
    socket_mode: int = _setting(0o660, values.mode)
    socket_owner: str = _setting("", values.text)
    socket_group: str = _setting("", values.text)
    user: str = _setting("popbsmtp", values.text)
    users: tuple[str, ...] = _setting(
        (), values.list_of(values.text, 'a list of users such as ["dovecot"]')
    )
    refresh: float | None = _setting(None, values.refresh)
    # Dovecot gives up after 60 s (lib-master/master-login.h).
    reply_timeout: float = _setting(1.0, values.between(0.1, 50, 'a duration from "0.1s" to "50s"'))
    spool: str = _setting("/var/spool/popbsmtp", values.absolute)
    spool_size: int = _setting(64 << 20, values.size)
    log: str = _setting("stderr", values.one_of("stderr", "syslog"))

    @property
    def sockets(self) -> tuple[str, ...]:
        """The paths of all sockets."""
        return (self.socket, *(place.path for place in self.postlogin))


@dataclass(frozen=True)
class Postfix:
    """[postfix]: how Postfix reaches the database where that differs from the URL."""

    hosts: tuple[str, ...] = _setting(
        (), values.list_of(values.text, 'a list of hosts such as ["127.0.0.1:5432"]')
    )
    user: str = _setting("", values.text)
    password_file: str = _setting("", values.optional_absolute)


_COURIER: Final = ("imap", "imap-ssl", "pop", "pop-ssl")


@dataclass(frozen=True)
class Watch:
    """[watch]; max_session in seconds, pattern holds the tables [[watch.pattern]]."""

    files: tuple[str, ...] = _setting(
        ("/var/log/mail.log",),
        values.list_of(values.log_file, 'a list of log files such as ["/var/log/mail.log"]'),
    )
    servers: tuple[str, ...] = _setting(
        (), values.list_of(values.server, 'a list of servers such as ["dovecot"]')
    )
    journal: bool = _setting(default=False, parse=values.boolean)
    # The units of Debian's packages.
    journal_units: tuple[tuple[str, tuple[str, ...]], ...] = _setting(
        (
            ("dovecot", ("dovecot.service",)),
            ("courier", tuple(f"courier-{name}.service" for name in _COURIER)),
            ("cyrus", ("cyrus-imapd.service",)),
        ),
        values.units,
    )
    state: str = _setting("/var/lib/popbsmtp/watch", values.absolute)
    # A week: what is open for longer has lost its logout.
    max_session: float = _setting(
        12 * 3600.0, values.between(0, 7 * 86400, 'a duration from 0 to "168h"')
    )
    pattern: tuple[OwnPattern, ...] = _setting((), own_patterns)
    # What to do with logins of a file that outsiders may write lines into (logs/forging.py).
    forgeable: str = _setting("refuse", values.one_of("refuse", "record"))


@dataclass(frozen=True)
class Sessions:
    """[sessions]; renew in seconds, 0 for never, None for a third of grace, see Settings.renew."""

    renew: float | None = _setting(None, values.renew)
    # The command and its first arguments; () for doveadm where packages put it.
    doveadm: tuple[str, ...] = _setting((), values.command)


@dataclass(frozen=True)
class Settings:
    """The whole configuration; grace in seconds."""

    grace: int = _setting(1800, values.grace)
    database: Database = field(default_factory=Database)
    ignore: Ignore = field(default_factory=Ignore)
    wrapper: Wrapper = field(default_factory=Wrapper)
    recorder: Recorder = field(default_factory=Recorder)
    postfix: Postfix = field(default_factory=Postfix)
    watch: Watch = field(default_factory=Watch)
    sessions: Sessions = field(default_factory=Sessions)

    @property
    def refresh(self) -> float:
        """Seconds in which the recorder writes an address once only."""
        if self.recorder.refresh is None:
            return self.grace / 60
        return self.recorder.refresh

    @property
    def renew(self) -> float:
        """Seconds after which the addresses of open sessions are renewed, 0 for never."""
        return self.grace / 3 if self.sessions.renew is None else self.sessions.renew


_SECTIONS: Final[Mapping[str, type]] = {
    "database": Database,
    "ignore": Ignore,
    "wrapper": Wrapper,
    "recorder": Recorder,
    "postfix": Postfix,
    "watch": Watch,
    "sessions": Sessions,
}


def load(path: str = DEFAULT_PATH) -> Settings:
    """Return the Settings that the file at *path* holds.

    Raise ConfigError, naming file, key, what was found and what is expected. A file that holds a
    password and that others may read is refused.
    """
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            values = tomllib.load(file)
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; create it (an empty file means SQLite and all defaults)"
            " or name another one with -c FILE"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    settings = parse(values, path)
    database = settings.database
    secret = database.dialect != "sqlite" and read_url(database.url).password
    if secret and mode & stat.S_IROTH:
        raise ConfigError(
            f"{path} holds a password and is readable by everyone; run: chmod o-rwx {path}"
        )
    return settings


def parse(values: Mapping[str, Any], path: str) -> Settings:
    """Return the Settings for parsed TOML; *path* is for messages. Raise ConfigError."""
    top: dict[str, Any] = {}
    loose = {}
    for key, value in values.items():
        if key not in _SECTIONS:
            loose[key] = value
        elif isinstance(value, dict):
            top[key] = _section(_SECTIONS[key], value, f"{key}.", path)
        else:
            raise ConfigError(f"{path}: {key}: found {value!r}, expected a section [{key}]")
    settings = _section(Settings, loose, "", path, **top)
    names = [name for name in settings.database.columns if name]
    if len({name.lower() for name in names}) < len(names):
        raise ConfigError(f"{path}: database: two columns have the same name: {', '.join(names)}")
    if settings.refresh > settings.grace / 2:
        raise ConfigError(
            f"{path}: recorder.refresh: found {settings.refresh:g} s,"
            f" expected at most half of grace ({settings.grace / 2:g} s)"
        )
    if settings.renew > settings.grace / 2:
        raise ConfigError(
            f"{path}: sessions.renew: found {settings.renew:g} s,"
            f" expected at most half of grace ({settings.grace / 2:g} s)"
        )
    sockets = settings.recorder.sockets
    if len(set(sockets)) < len(sockets):
        raise ConfigError(
            f"{path}: recorder: two sockets have the same path: {', '.join(sorted(sockets))}"
        )
    return settings


def _section(
    cls: type[Section], values: Mapping[str, Any], prefix: str, path: str, **done: Any
) -> Section:
    others = [] if prefix else [f"[{name}]" for name in _SECTIONS]
    known = {item.name: item.metadata for item in fields(cls) if "parse" in item.metadata}  # type: ignore[arg-type]  # every section is a dataclass
    parsed = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(
                f"{path}: {prefix}{key}: unknown key;"
                f" known here: {', '.join([*sorted(known), *others])}"
            )
        try:
            parsed[key] = known[key]["parse"](value)
        except BadValueError as error:
            found = error.found[0] if error.found else value
            found = masked(found) if isinstance(found, str) else found
            raise ConfigError(f"{path}: {prefix}{key}: found {found!r}, expected {error}") from None
    return cls(**done, **parsed)
