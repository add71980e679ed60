"""Postfix's side: the map files, the main.cf lines, and a question to the live map.

Sources: access(5), pgsql_table(5), mysql_table(5), sqlite_table(5), postconf(5).
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from popbsmtp_wrap.config import Settings, read_password
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.store.files import path_of
from popbsmtp_wrap.store.query import lookup_query

MAP_TYPES: Final = {"postgresql": "pgsql", "mysql": "mysql", "sqlite": "sqlite"}
REGEXP_FILE: Final = "popbsmtp-address.regexp"
MYSQL_OPTION_FILE: Final = "popbsmtp-mysql.cnf"
MAIN_CF_FILE: Final = "popbsmtp-main.cf"
# Keys that are complete addresses: no host name, and as the first table of a pipemap no prefix.
ADDRESS_PATTERN: Final = "^([0-9]+[.][0-9]+[.][0-9]+[.][0-9]+|[0-9a-f.]*:[0-9a-f:.]+)$"
NEWEST: Final = (3, 7)
# Connecting must not take longer than a client that waits for its reply to RCPT.
_CONNECT_S: Final = 2

Version = tuple[int, int]


@dataclass(frozen=True)
class MapFile:
    """A file for Postfix to read; *secret* when it holds a password."""

    name: str
    text: str
    secret: bool = False


@dataclass(frozen=True)
class Account:
    """How Postfix reaches the database."""

    hosts: tuple[str, ...]
    port: int | None
    user: str
    password: str
    database: str
    options: dict[str, str]


def parse_version(text: str) -> Version:
    """Return (major, minor) of a Postfix version. Raise ValueError for anything else."""
    match = re.match(r"([0-9]{1,2})\.([0-9]{1,2})", text)
    if not match:
        raise ValueError(f"{text!r} is not a Postfix version such as 3.7")
    return int(match[1]), int(match[2])


def map_name(settings: Settings) -> str:
    """Return the name of the map file."""
    return f"popbsmtp-{MAP_TYPES[settings.database.dialect]}.cf"


def map_files(settings: Settings, directory: str, version: Version = NEWEST) -> list[MapFile]:
    """Return the files that Postfix *version* needs in *directory*.

    Raise ConfigError when an account or host cannot be written in Postfix's syntax.
    """
    dialect = settings.database.dialect
    files = []
    if dialect == "sqlite":
        lines = [f"dbpath = {path_of(settings.database)}"]
    elif dialect == "postgresql":
        lines = _pgsql_lines(postfix_account(settings), version)
    else:
        lines = _mysql_lines(postfix_account(settings), directory, version)
        if version >= (2, 11):
            text = f"[client]\nconnect_timeout = {_CONNECT_S}\nread_timeout = {_CONNECT_S}\n"
            files.append(MapFile(MYSQL_OPTION_FILE, text))
    header = (
        "# Written by popbsmtp postfix. A value ends with its line: no comment may follow it.\n"
    )
    query = lookup_query(settings, only_ipv4=version < (3, 0))
    text = header + "\n".join([*lines, f"query = {query}"]) + "\n"
    files.insert(0, MapFile(map_name(settings), text, secret=dialect != "sqlite"))
    if (3, 0) <= version < (3, 7):
        files.append(MapFile(REGEXP_FILE, f"/{ADDRESS_PATTERN}/  ${{1}}\n"))
    return files


def main_cf(settings: Settings, directory: str, version: Version = NEWEST) -> str:
    """Return the lines for main.cf of Postfix *version*."""
    # proxy: one process asks the database for all smtpd, reads files outside their chroot, and
    # takes the harm when SQLite fails.
    table = f"proxy:{MAP_TYPES[settings.database.dialect]}:{directory}/{map_name(settings)}"
    if version >= (3, 7):
        pattern = ADDRESS_PATTERN.replace("$", "$$")
        table = f"pipemap:{{regexp:{{{{/{pattern}/ $${{1}}}}}}, {table}}}"
    elif version >= (3, 0):
        table = f"pipemap:{{regexp:{directory}/{REGEXP_FILE}, {table}}}"
    if version >= (2, 10):
        return _RELAY_RESTRICTIONS.format(table=table)
    return _OLD_RECIPIENT_RESTRICTIONS.format(table=table)


_RELAY_RESTRICTIONS = """\
# Mail for your own domains is permitted before the map: it costs no query and does not notice
# when the database is down.
smtpd_relay_restrictions =
    permit_mynetworks
    permit_sasl_authenticated
    permit_auth_destination
    check_client_access {table}
    reject_unauth_destination
"""

_OLD_RECIPIENT_RESTRICTIONS = """\
# Before Postfix 2.10: your spam rules follow after reject_unauth_destination. Mail for your own
# domains asks the map too, and IPv6 clients are not served.
smtpd_recipient_restrictions =
    permit_mynetworks
    permit_sasl_authenticated
    check_client_access {table}
    reject_unauth_destination
"""


def postfix_account(settings: Settings) -> Account:
    """Return Postfix's way to the database: [postfix], and where that is silent the URL.

    Raise ConfigError when a password file cannot be read.
    """
    url = urlsplit(settings.database.url)
    options = dict(parse_qsl(url.query))
    socket = options.get("unix_socket") or options.get("host")
    hosts = settings.postfix.hosts
    if not hosts:
        hosts = (f"unix:{socket}" if socket and socket.startswith("/") else socket or "",)
        if not hosts[0]:
            hosts = (url.hostname or "",)
    if settings.postfix.user:
        user, password = settings.postfix.user, ""
    else:
        user, password = unquote(url.username or ""), unquote(url.password or "")
        if settings.database.password_file and not settings.postfix.password_file:
            password = read_password(settings.database.password_file)
    if settings.postfix.password_file:
        password = read_password(settings.postfix.password_file)
    return Account(hosts, url.port, user, password, unquote(url.path[1:]), options)


def _pgsql_lines(account: Account, version: Version) -> list[str]:
    if version < (3, 3):  # no URI, so no way to set a time-out
        hosts = [_host_and_port(host, account.port or 5432) for host in account.hosts]
        return [
            f"hosts = {' '.join(hosts)}",
            f"user = {_plain('user', account.user)}",
            f"password = {_plain('password', account.password)}",
            f"dbname = {_plain('dbname', account.database)}",
        ]
    # A URI takes every character of a password, and a time-out.
    uris = [_pgsql_uri(host, account) for host in account.hosts]
    # dbname is in the URI, but has to be there until Postfix 3.9.
    return [f"hosts = {' '.join(uris)}", f"dbname = {_plain('dbname', account.database)}"]


def _pgsql_uri(host: str, account: Account) -> str:
    options = {"connect_timeout": str(_CONNECT_S)}
    options |= {key: value for key, value in account.options.items() if key.startswith("ssl")}
    port = account.port
    host = host.removeprefix("inet:")
    if match := re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:/\[\]]*):([0-9]{1,5})", host):
        host, port = match[1], int(match[2])
    if host.removeprefix("unix:").startswith("/"):
        options["host"] = host.removeprefix("unix:")
        if port:
            options["port"] = str(port)
        where = ""
    else:
        bare = host.strip("[]")
        where = (f"[{bare}]" if ":" in bare else bare or "127.0.0.1") + (f":{port}" if port else "")
    who = quote(account.user, safe="")
    if account.password:
        who += ":" + quote(account.password, safe="")
    at = "@" if who else ""
    name = quote(account.database, safe="")
    return f"postgresql://{who}{at}{where}/{name}?{urlencode(options, quote_via=quote)}"


def _mysql_lines(account: Account, directory: str, version: Version) -> list[str]:
    hosts = []
    for host in account.hosts:
        if host.removeprefix("unix:").startswith("/"):
            hosts.append("unix:" + host.removeprefix("unix:"))
        else:
            hosts.append("inet:" + _host_and_port(host.removeprefix("inet:"), account.port or 3306))
    lines = [
        f"hosts = {' '.join(hosts)}",
        f"user = {_plain('user', account.user)}",
        f"password = {_plain('password', account.password)}",
        f"dbname = {_plain('dbname', account.database)}",
    ]
    for option, parameter in (("ssl_ca", "tls_CAfile"), ("ssl_cert", "tls_cert_file")):
        if option in account.options:
            lines.append(f"{parameter} = {_plain(parameter, account.options[option])}")
    if version >= (2, 11):
        lines += [f"option_file = {directory}/{MYSQL_OPTION_FILE}", "option_group = client"]
    return lines


def _host_and_port(host: str, port: int) -> str:
    """Return host:port as Postfix takes it for TCP.

    It takes no IPv6 literal, and its client library takes "localhost" for the default socket.
    """
    if host.startswith(("/", "unix:")):
        return "unix:" + host.removeprefix("unix:")
    name, _, given = host.partition(":")
    if ":" in given or "[" in host:
        raise ConfigError(
            f"postfix.hosts: Postfix cannot reach the IPv6 address {host} of a database;"
            " give a host name"
        )
    if name in ("", "localhost"):
        name = "127.0.0.1"
    return f"{name}:{given or port}"


def _plain(what: str, value: str) -> str:
    """Return *value* as a map file holds it: raw, as there is no quoting."""
    if value != value.strip() or "\n" in value or "\r" in value:
        raise ConfigError(
            f"postfix: a {what} that begins or ends with a blank cannot be written into a"
            " map file; choose another one"
        )
    return value
