"""Postfix's side: the map files, the main.cf lines, and a question to the live map.

Sources: access(5), pgsql_table(5), mysql_table(5), sqlite_table(5), postconf(5).
"""

import re
from dataclasses import dataclass
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.config.database_url import Endpoint
from popbsmtp_wrap.config.mysql_tls import tls_of
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.postfix.account import Account, postfix_account
from popbsmtp_wrap.store.sqlite_files import path_of

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
        lines = [f"dbpath = {_plain('path', path_of(settings.database))}"]
    elif dialect == "postgresql":
        lines = _pgsql_lines(postfix_account(settings))
    else:
        lines = _mysql_lines(postfix_account(settings), version)
        if version >= (2, 11):
            lines += [f"option_file = {directory}/{MYSQL_OPTION_FILE}", "option_group = client"]
            files.append(MapFile(MYSQL_OPTION_FILE, _MYSQL_OPTIONS))
    # It imports SQLAlchemy, 0.13 s that the other commands have no use for.
    from popbsmtp_wrap.store.lookup_query import lookup_query

    query = lookup_query(settings, only_ipv4=version < (3, 0))
    text = _HEADER + "\n".join([*lines, f"query = {query}"]) + "\n"
    files.insert(0, MapFile(map_name(settings), text, secret=dialect != "sqlite"))
    if (3, 0) <= version < (3, 7):
        files.append(MapFile(REGEXP_FILE, f"/{ADDRESS_PATTERN}/  ${{1}}\n"))
    return files


_HEADER = "# Written by popbsmtp postfix. A value ends with its line: no comment may follow it.\n"
_MYSQL_OPTIONS = f"""\
# Written by popbsmtp postfix: how long Postfix's mysql map waits for a connection.
[client]
connect_timeout = {_CONNECT_S}
"""


def main_cf(settings: Settings, directory: str, version: Version = NEWEST) -> str:
    """Return the lines for main.cf of Postfix *version*. Raise ConfigError for a bad directory."""
    if re.search(r"[\s,{}$:]", directory):
        raise ConfigError(
            f"{directory!r}: Postfix splits names at such characters; use another DIR"
        )
    # proxy: one process asks the database for all smtpd, reads files outside their chroot, and
    # takes the harm when SQLite fails.
    proxied = f"proxy:{MAP_TYPES[settings.database.dialect]}:{directory}/{map_name(settings)}"
    if version >= (3, 7):
        pattern = ADDRESS_PATTERN.replace("$", "$$")
        table = f"pipemap:{{regexp:{{{{/{pattern}/ $${{1}}}}}}, {proxied}}}"
    elif version >= (3, 0):
        table = f"pipemap:{{regexp:{directory}/{REGEXP_FILE}, {proxied}}}"
    else:
        table = proxied
    restrictions = _RELAY_RESTRICTIONS if version >= (2, 10) else _OLD_RECIPIENT_RESTRICTIONS
    lines = restrictions.format(table=table)
    if version < (3, 0):
        lines += _OLD_PROXY_READ_MAPS.format(table=proxied)
    return lines


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

_OLD_PROXY_READ_MAPS = """\
# Before Postfix 3.0 the default, which is all of this but the last line, forbids the map.
proxy_read_maps =
    $local_recipient_maps $mydestination $virtual_alias_maps $virtual_alias_domains
    $virtual_mailbox_maps $virtual_mailbox_domains $relay_recipient_maps $relay_domains
    $canonical_maps $sender_canonical_maps $recipient_canonical_maps $relocated_maps
    $transport_maps $mynetworks $smtpd_sender_login_maps $sender_bcc_maps $recipient_bcc_maps
    $smtp_generic_maps $lmtp_generic_maps $alias_maps
    {table}
"""


def _pgsql_lines(account: Account) -> list[str]:
    # Not a URI in hosts: Postfix logs hosts, and with it the password, whenever it cannot connect.
    # A dbname with "=" is a connection string, see PQsetdbLogin; hosts goes before what it says.
    words = {"dbname": account.database, "user": account.user, "password": account.password}
    sockets = {place.port or account.port for place in account.places if place.socket}
    if len(sockets) > 1:
        raise ConfigError(
            "database.url: Postfix reaches unix sockets of one port only; set postfix.hosts"
        )
    if port := next(iter(sockets), None if account.places else account.port):
        words["port"] = str(port)
    words |= {
        key: value
        for key, value in account.options.items()
        if key.startswith("ssl") or key in _PGSQL_OPTIONS
    }
    words["connect_timeout"] = str(_CONNECT_S)
    hosts = [_pgsql_host(place, account.port or 5432) for place in account.places]
    return [
        *_hosts_lines(hosts or ["unix:"]),
        "# libpq's connection string. Not in hosts: Postfix logs those.",
        "dbname = "
        + " ".join(f"{key}={_quoted(key, value)}" for key, value in words.items() if value),
    ]


# How to connect and what a server has to be, as libpq is told by the recorder.
_PGSQL_OPTIONS: Final = (
    *("options", "target_session_attrs", "hostaddr", "require_auth", "requirepeer"),
    *("channel_binding", "gssencmode", "krbsrvname", "gsslib"),
)


def _pgsql_host(place: Endpoint, port: int) -> str:
    # Postfix cuts the port off at the last colon, so an IPv6 address needs no brackets.
    return f"unix:{place.socket}" if place.socket else f"inet:{place.host}:{place.port or port}"


def _quoted(what: str, value: str) -> str:
    """Return *value* as libpq's connection strings hold it."""
    value = _one_line(what, value)
    if re.fullmatch(r"[A-Za-z0-9._/-]+", value) and not what.endswith("password"):
        return value
    return "'" + re.sub(r"(['\\])", r"\\\1", value) + "'"


def _mysql_lines(account: Account, version: Version) -> list[str]:
    lines = [
        *_hosts_lines([_mysql_host(place, account.port or 3306) for place in account.places]),
        f"user = {_plain('user', account.user)}",
        f"password = {_plain('password', account.password)}",
        f"dbname = {_plain('dbname', account.database)}",
    ]
    return [*lines, *_mysql_tls(account, version)]


def _mysql_tls(account: Account, version: Version) -> list[str]:
    """Return the lines that make the map's TLS what the recorder's is. Raise ConfigError.

    Seen with libmariadb 3.3: any tls_ parameter makes it use TLS where the server offers it, and
    only tls_verify_cert demands that, and checks chain and name.
    """
    tls = tls_of(account.options)
    sockets = bool(account.places) and all(place.socket for place in account.places)
    if tls.disabled or (tls.is_default and (sockets or version < _MYSQL_TLS_SINCE)):
        return []
    if version < _MYSQL_TLS_SINCE:
        raise ConfigError("database.url: the mysql map has TLS since Postfix 2.11 only")
    if tls.key_password:
        raise ConfigError("database.url: Postfix cannot have ssl_key_password; use another key")
    if tls.checks_chain and not tls.checks_name:
        raise ConfigError(
            "database.url: Postfix's mysql map cannot demand TLS without checking the server's"
            " name; leave out ssl_check_hostname and ssl_verify_identity"
        )
    lines = [
        f"{parameter} = {_plain(parameter, tls.files[name])}"
        for name, parameter in _MYSQL_TLS.items()
        if name in tls.files
    ]
    if "cipher" not in tls.files:
        lines.append("tls_ciphers = DEFAULT")
    return [*lines, "tls_verify_cert = yes"] if tls.checks_name else lines


# mysql_table(5).
_MYSQL_TLS_SINCE: Final = (2, 11)
_MYSQL_TLS: Final = {
    "ca": "tls_CAfile",
    "capath": "tls_CApath",
    "cert": "tls_cert_file",
    "key": "tls_key_file",
    "cipher": "tls_ciphers",
}


def _mysql_host(place: Endpoint, port: int) -> str:
    if place.socket:
        return f"unix:{place.socket}"
    # The client library takes "localhost" for its default socket, whatever the port.
    host = "127.0.0.1" if place.host in ("", "localhost") else place.host
    return f"inet:{host}:{place.port or port}"


def _hosts_lines(hosts: list[str]) -> list[str]:
    """Return hosts, one of them twice, and how soon one that failed is tried again."""
    hosts = hosts or ["inet:127.0.0.1:3306"]
    if len(hosts) > 1:
        return [f"hosts = {' '.join(hosts)}", "retry_interval = 5"]
    return [
        "# Twice: the second one answers at once when the first connection has died meanwhile.",
        f"hosts = {hosts[0]} {hosts[0]}",
        "# Seconds; from Postfix 3.9 on. Before, a server that failed is left alone for 60.",
        "retry_interval = 5",
    ]


def _plain(what: str, value: str) -> str:
    """Return *value* as a map file holds it: raw, as there is no quoting."""
    if value != value.strip(" \t\v\f"):
        raise ConfigError(
            f"postfix: the {what} begins or ends with a blank, which a map file cannot hold;"
            " choose another one"
        )
    return _one_line(what, value)


def _one_line(what: str, value: str) -> str:
    if re.search(r"[\n\r\0]", value):
        raise ConfigError(
            f"postfix: the {what} holds a line break or NUL, which a map file cannot hold;"
            " choose another one"
        )
    return value
