"""popbsmtp.toml as frozen Settings; every default stands here."""

import os
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from popbsmtp_wrap.errors import ConfigError

DEFAULT_PATH: Final = "/etc/popbsmtp/popbsmtp.toml"
DIALECTS: Final = ("postgresql", "mysql", "mariadb", "sqlite")

Network = IPv4Network | IPv6Network
Parse = Callable[[Any], Any]
Section = TypeVar("Section")

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


class _BadValueError(ValueError):
    """What was expected; the loader adds file, key and what was found."""

    def __init__(self, expected: str, *found: Any) -> None:
        super().__init__(expected)
        self.found = found


def _duration(value: Any) -> float:
    """Return seconds. TOML numbers are seconds; text is a number with s, m or h."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smh]?)", str(value), re.ASCII)
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not match:
        raise _BadValueError('a duration such as 90, "90s", "30m" or "2h"')
    return float(match[1]) * _UNITS[match[2]]


def _between(least: float, most: float, what: str) -> Parse:
    def parse(value: Any) -> float:
        seconds = _duration(value)
        if not least <= seconds <= most:
            raise _BadValueError(what)
        return seconds

    return parse


def _grace(value: Any) -> int:
    seconds = _duration(value)
    # The longest window that still means "has just read its mail".
    if not 1 <= seconds <= 7 * 86400 or seconds != int(seconds):
        raise _BadValueError('whole seconds from "1s" to "168h"')
    return int(seconds)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _BadValueError("text in quotes")
    return value


def _identifier(value: Any) -> str:
    """Return a name that is safe in every dialect; never qualified with a database.

    Replication filters look at the session's database (replicate_do_db).
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value):
        raise _BadValueError("a name of letters, digits and _ (the database belongs into the URL)")
    return value


def _optional_identifier(value: Any) -> str:
    return "" if value == "" else _identifier(value)


def _absolute(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise _BadValueError("an absolute path")
    return value


def _optional_absolute(value: Any) -> str:
    return "" if value == "" else _absolute(value)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _BadValueError("true or false")
    return value


def _list_of(parse: Parse, what: str) -> Parse:
    def parse_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _BadValueError(what)
        return tuple(parse(item) for item in value)

    return parse_list


def _network(value: Any) -> Network:
    what = 'a network such as "192.0.2.0/24" or "2001:db8::/32"'
    try:
        return ip_network(_text(value))
    except _BadValueError:
        raise _BadValueError(what, value) from None
    except ValueError as error:
        raise _BadValueError(f"{what} ({error})", value) from None


def _url(value: Any) -> str:
    what = 'a URL such as "sqlite:////var/lib/popbsmtp/popbsmtp.db" or "postgresql://user@host/db"'
    try:
        parts = urlsplit(_text(value))
        _ = parts.port
    except ValueError:
        raise _BadValueError(what) from None
    if dialect_of(parts) not in DIALECTS or any(c.isspace() for c in value):
        raise _BadValueError(what)
    if dialect_of(parts) == "sqlite":
        if parts.netloc or not parts.path.startswith("//") or parts.query:
            raise _BadValueError("an absolute path after sqlite:///, so four slashes")
    elif not parts.path.strip("/"):
        raise _BadValueError(
            f"a database name at the end, as in {dialect_of(parts)}://user@host/db"
        )
    return str(value)


def _setting(default: Any, parse: Parse, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"parse": parse, "secret": secret})


@dataclass(frozen=True)
class Database:
    """[database]; connect_timeout in seconds."""

    url: str = _setting("sqlite:////var/lib/popbsmtp/popbsmtp.db", _url, secret=True)
    password_file: str = _setting("", _optional_absolute)
    table: str = _setting("popbsmtp", _identifier)
    address_column: str = _setting("address", _identifier)
    last_seen_column: str = _setting("last_seen", _identifier)
    first_seen_column: str = _setting("first_seen", _optional_identifier)
    user_column: str = _setting("username", _optional_identifier)
    service_column: str = _setting("service", _optional_identifier)
    connect_timeout: float = _setting(2.0, _between(0.1, 60, 'a duration from "0.1s" to "60s"'))

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
        name = dialect_of(urlsplit(self.url))
        return "mysql" if name == "mariadb" else name


@dataclass(frozen=True)
class Ignore:
    """[ignore]."""

    networks: tuple[Network, ...] = _setting(
        (), _list_of(_network, 'a list of networks such as ["192.0.2.0/24"]')
    )
    postfix_mynetworks: bool = _setting(default=True, parse=_boolean)


@dataclass(frozen=True)
class Wrapper:
    """[wrapper]; wait in seconds."""

    # Dovecot gives up after 60 s (lib-master/master-login.h).
    wait: float = _setting(2.0, _between(0, 50, 'a duration from 0 to "50s"'))


@dataclass(frozen=True)
class Recorder:
    """[recorder]."""

    socket: str = _setting("/run/popbsmtp/login.sock", _absolute)
    spool: str = _setting("/var/spool/popbsmtp", _absolute)


@dataclass(frozen=True)
class Postfix:
    """[postfix]: how Postfix reaches the database where that differs from the URL."""

    hosts: tuple[str, ...] = _setting(
        (), _list_of(_text, 'a list of hosts such as ["127.0.0.1:5432"]')
    )
    user: str = _setting("", _text)
    password_file: str = _setting("", _optional_absolute)


@dataclass(frozen=True)
class Settings:
    """The whole configuration; grace in seconds."""

    grace: int = _setting(1800, _grace)
    database: Database = field(default_factory=Database)
    ignore: Ignore = field(default_factory=Ignore)
    wrapper: Wrapper = field(default_factory=Wrapper)
    recorder: Recorder = field(default_factory=Recorder)
    postfix: Postfix = field(default_factory=Postfix)


_SECTIONS: Final[Mapping[str, type]] = {
    "database": Database,
    "ignore": Ignore,
    "wrapper": Wrapper,
    "recorder": Recorder,
    "postfix": Postfix,
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
    if urlsplit(settings.database.url).password and mode & stat.S_IROTH:
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
        except _BadValueError as error:
            found = error.found[0] if error.found else value
            found = masked(found) if isinstance(found, str) else found
            raise ConfigError(f"{path}: {prefix}{key}: found {found!r}, expected {error}") from None
    return cls(**done, **parsed)


def dialect_of(url: SplitResult) -> str:
    """Return the dialect of a URL: what stands before "+driver"."""
    return url.scheme.partition("+")[0]


def masked(url: str) -> str:
    """Return *url* with *** for its password."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)


def read_password(path: str) -> str:
    """Return the first line of a password file, without its line end.

    Raise ConfigError when others may read it, or when it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                raise ConfigError(
                    f"{path} holds a password and is readable by everyone; run: chmod o-rwx {path}"
                )
            return file.readline().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"password file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"password file {path} is not UTF-8 text") from None
