r"""Dovecot's post-login sockets (the script-login protocol); bytes in, bytes out, no I/O.

Request, two lines, fields separated by TAB; one connection each:

    VERSION TAB script-login TAB 1 TAB minor LF
    local address TAB remote address TAB user (TAB name=value)... LF

A descriptor, the client's socket, comes with the first byte (SCM_RIGHTS). User and fields are
tab-escaped: \001 and one of 0 1 t r n stand for NUL, \001, TAB, CR, LF. The addresses are not.
Reply, one line; without it no mailbox opens:

    user (TAB name=value)... LF

Sources: src/lib-master/master-login.c and src/util/script-login.c of Dovecot 2.0 to 2.3,
src/lib-login/login-server.c of 2.4; src/lib/strescape.c.
"""

import re
from dataclasses import dataclass
from typing import Final

# Four times what Dovecot takes from its auth process (AUTH_MAX_INBUF_SIZE, master-login-auth.c)
# and sends on with two addresses.
LONGEST_REQUEST: Final = 32768

_LINES = 2
_FIELDS = 3
# As version_string_verify() has it (master-service.c): the same major version, any minor one.
_VERSION = re.compile(rb"VERSION\tscript-login\t1\t[0-9]+")
# script-login turns names into upper case, so case does not matter there either. Dovecot's auth
# process names the mechanism, and adds "anonymous" where a client logged in as
# auth_anonymous_username by whatever mechanism (seen with 2.3.19).
_MASTER_USER = re.compile(rb"\tmaster_user=[^\t\n]", re.IGNORECASE)
_ANONYMOUS = re.compile(
    rb"\t(?:auth_mech=anonymous|anonymous(?:=[^\t\n]*)?)(?=[\t\n]|$)", re.IGNORECASE
)
_ESCAPED = re.compile(rb"\001(.?)", re.DOTALL)
_MEANING = {b"0": b"\0", b"1": b"\001", b"t": b"\t", b"r": b"\r", b"n": b"\n"}


@dataclass(frozen=True, slots=True)
class Request:
    """A login that waits for *reply*.

    *remote* and *local* stand for the addresses of client and server: the caller has to parse them.
    *master* tells that an administrator has logged in as the user, *anonymous* that nobody has
    proved to be anybody. *reply* gives Dovecot back what it sent: a
    mail process that gets less forgets the user's home, uid and quota.
    """

    remote: str
    user: bytes
    master: bool
    reply: bytes
    anonymous: bool = False
    local: str = ""


def is_complete(received: bytes) -> bool:
    """Tell whether parse() needs no more: a whole request, or more than any request has."""
    return received.count(b"\n") >= _LINES or len(received) > LONGEST_REQUEST


def parse(received: bytes) -> Request:
    """Return the Request that is all of *received*.

    Raise ValueError, with one printable line, when it is not this protocol.
    """
    if len(received) > LONGEST_REQUEST:
        raise ValueError(f"more than {LONGEST_REQUEST} bytes")
    version, _, rest = received.partition(b"\n")
    line, end, more = rest.partition(b"\n")
    if not _VERSION.fullmatch(version):
        raise ValueError(f"not version 1 of script-login: {version[:60]!r}")
    if not end:
        raise ValueError(f"{len(received)} bytes without the end of the second line")
    if more:
        raise ValueError(f"more after the second line: {more[:60]!r}")
    fields = line.split(b"\t", _FIELDS - 1)
    if len(fields) < _FIELDS:
        raise ValueError(f"fewer than {_FIELDS} fields: {line[:60]!r}")
    local, remote, echoed = fields
    user = _unescape(echoed.partition(b"\t")[0])
    if not user:
        raise ValueError(f"no user name: {line[:60]!r}")
    return Request(
        remote.decode("ascii", "backslashreplace"),
        user,
        _MASTER_USER.search(echoed) is not None,
        echoed + b"\n",
        _ANONYMOUS.search(echoed) is not None,
        local.decode("ascii", "backslashreplace"),
    )


def _unescape(value: bytes) -> bytes:
    r"""Do what str_tabunescape() does: before anything else, and at the end, \001 is left out."""
    return _ESCAPED.sub(lambda match: _MEANING.get(match[1], match[1]), value)
