"""Courier IMAP and POP3, all daemons."""

from typing import Final

from popbsmtp_wrap.sources.logs.pattern import ADDRESS, Server, pattern, reason, tags

_WHO = rf"user=(?P<user>[^,\[\]]{{1,255}}+),[ ]ip=\[{ADDRESS}\](?=,[ ]|\Z)"
_INFO = r"(?:INFO:[ ])?"
_ONCE = ("ip=[", "user=")

COURIER: Final = Server(
    "courier",
    tags(r"(?:courier-?)?(?:imap|pop3|couriertcp)(?:d|login)(?:-ssl)?"),
    (
        pattern("login", rf"{_INFO}LOGIN,[ ]{_WHO}", *_ONCE),
        pattern("logout", rf"{_INFO}(?:LOGOUT|TIMEOUT|DISCONNECTED),[ ]{_WHO}", *_ONCE),
        pattern("failure", rf"{_INFO}LOGIN[ ](?:FAILED|REFUSED)"),
    ),
    (),
    (b"imap", b"pop", b"couriertcp"),
    (
        reason(r".*ip=\[.*ip=\[", "ip= stands in it twice: ambiguous"),
        reason(r"Connection,", "a connection without a login"),
        reason(r"(?:LOGOUT|TIMEOUT|DISCONNECTED),[ ]ip=", "the end of a session without a login"),
    ),
    "auth_reject and LOGIN in imap/imaplogin.c and imap/pop3dserver.c",
)
