"""Values of popbsmtp.toml: each function gives what a key means, or says what was expected."""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from popbsmtp_wrap.config.database_url import read_url
from popbsmtp_wrap.config.mysql_tls import tls_of
from popbsmtp_wrap.errors import BadValueError

DIALECTS: Final = ("postgresql", "mysql", "mariadb", "sqlite")

Network = IPv4Network | IPv6Network
Parse = Callable[[Any], Any]

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}
# sun_path holds 108 bytes with the zero at its end (unix(7)).
_LONGEST_SOCKET = 107
# Of a size: some hundreds of logins, and more than anybody needs.
_LEAST, _MOST = 64 << 10, 64 << 30


def duration(value: Any) -> float:
    """Return seconds. TOML numbers are seconds; text is a number with s, m or h."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smh]?)", str(value), re.ASCII)
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not match:
        raise BadValueError('a duration such as 90, "90s", "30m" or "2h"')
    return float(match[1]) * _UNITS[match[2]]


def between(least: float, most: float, what: str) -> Parse:
    def parse(value: Any) -> float:
        seconds = duration(value)
        if not least <= seconds <= most:
            raise BadValueError(what)
        return seconds

    return parse


def grace(value: Any) -> int:
    seconds = duration(value)
    # The longest window that still means "has just read its mail".
    if not 1 <= seconds <= 7 * 86400 or seconds != int(seconds):
        raise BadValueError('whole seconds from "1s" to "168h"')
    return int(seconds)


def refresh(value: Any) -> float | None:
    return None if value == "" else duration(value)


def renew(value: Any) -> float | None:
    if value in ("", "off"):
        return None if value == "" else 0.0
    seconds = duration(value)
    # Each time a program is started, which takes 20 ms of a core.
    if 0 < seconds < 1:
        raise BadValueError('a duration from "1s", or 0 for never')
    return seconds


def command(value: Any) -> tuple[str, ...]:
    what = 'a program by its absolute path, or a list such as ["/usr/bin/doveadm", "-i", "name"]'
    words = [value] if isinstance(value, str) and value else value
    if value == "":
        return ()
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise BadValueError(what)
    if not words or not words[0].startswith("/") or any("\0" in word for word in words):
        raise BadValueError(what)
    return tuple(words)


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValueError("text in quotes")
    if "\0" in value:
        raise BadValueError("text without a zero byte")
    return value


def identifier(value: Any) -> str:
    """Return a name that is safe in every dialect; never qualified with a database.

    Replication filters look at the session's database (replicate_do_db).
    """
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", value):
        raise BadValueError("a name of letters, digits and _ (the database belongs into the URL)")
    return value


def optional_identifier(value: Any) -> str:
    return "" if value == "" else identifier(value)


def absolute(value: Any, *found: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise BadValueError("an absolute path", *found)
    return value


def service(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]{1,20}", value):
        raise BadValueError('a service such as "imap" or "pop3"', value)
    return value


def log_file(value: Any) -> str:
    return "-" if value == "-" else absolute(value, value)


def server(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9-]{1,40}", value):
        raise BadValueError('a server such as "dovecot"', value)
    return value


def units(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    what = 'units of servers such as { dovecot = ["dovecot.service"] }'
    if not isinstance(value, dict):
        raise BadValueError(what)
    found = []
    for name, names in value.items():
        sound = isinstance(names, list) and all(isinstance(unit, str) for unit in names)
        if not sound or not all(re.fullmatch(r"[A-Za-z0-9:_.@\\-]{1,255}", unit) for unit in names):
            raise BadValueError(what, names)
        found.append((server(name), tuple(names)))
    return tuple(found)


def mode(value: Any) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value):
        raise BadValueError('a mode such as "0660"')
    return int(value, 8)


def size(value: Any) -> int:
    """Return bytes. TOML numbers are bytes; text is a number with K, M or G."""
    match = re.fullmatch(r"([0-9]{1,12})([KMG]?)", str(value), re.ASCII)
    count = int(match[1]) << _SHIFTS[match[2]] if match else 0
    if isinstance(value, bool) or not isinstance(value, int | str) or not _LEAST <= count <= _MOST:
        raise BadValueError('a size from "64K" to "64G"')
    return count


def count(least: int, most: int) -> Parse:
    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise BadValueError(f"a whole number from {least} to {most}")
        return value

    return parse


def one_of(*words: str) -> Parse:
    def parse(value: Any) -> Any:
        if value not in words:
            raise BadValueError(" or ".join(f'"{word}"' for word in words))
        return value

    return parse


def socket_path(value: Any, *found: Any) -> str:
    if len(absolute(value, *found).encode("utf-8", "surrogateescape")) > _LONGEST_SOCKET:
        raise BadValueError(f"a path of at most {_LONGEST_SOCKET} bytes", *found)
    return str(value)


def optional_absolute(value: Any) -> str:
    return "" if value == "" else absolute(value)


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise BadValueError("true or false")
    return value


def list_of(parse: Parse, what: str) -> Parse:
    def parse_list(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise BadValueError(what)
        return tuple(parse(item) for item in value)

    return parse_list


def network(value: Any) -> Network:
    what = 'a network such as "192.0.2.0/24" or "2001:db8::/32"'
    try:
        return ip_network(text(value))
    except BadValueError:
        raise BadValueError(what, value) from None
    except ValueError as error:
        raise BadValueError(f"{what} ({error})", value) from None


def url(value: Any) -> str:
    what = 'a URL such as "sqlite:////var/lib/popbsmtp/popbsmtp.db" or "postgresql://user@host/db"'
    dialect = re.match("[a-z]*", value) if isinstance(value, str) else None
    if not dialect or dialect[0] not in DIALECTS or any(c.isspace() for c in value):
        raise BadValueError(what)
    if "\0" in unquote(value):
        raise BadValueError("a URL without a zero byte")
    if dialect[0] == "sqlite":
        parts = urlsplit(value)
        if parts.netloc or not parts.path.startswith("//") or parts.query:
            raise BadValueError("an absolute path after sqlite:///, so four slashes")
        return str(value)
    try:
        read = read_url(value)
        if dialect[0] != "postgresql":
            tls_of(read.options)
    except ValueError as error:
        raise BadValueError(f"in the URL {error}") from None
    if not read.database.strip("/"):
        raise BadValueError(f"a database name at the end, as in {dialect[0]}://user@host/db")
    return str(value)


def dialect_of(url: str) -> str:
    """Return the dialect of a URL: what stands before "+driver"."""
    return url.partition("://")[0].partition("+")[0]
