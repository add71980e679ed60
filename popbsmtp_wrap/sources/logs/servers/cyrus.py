"""Cyrus IMAP 2 and 3."""

from typing import Final

from popbsmtp_wrap.sources.logs.pattern import ADDRESS, HOST, Server, pattern, reason, tags

CYRUS: Final = Server(
    "cyrus",
    # syslog_prefix/service of cyrus.conf; Debian cyrus/imap, Fastmail sloti30t15/imap.
    tags(
        r"(?:[a-z][A-Za-z0-9_.-]{0,40}/)(?:imap|pop3)[a-z0-9_-]{0,20}"
        r"|(?:cyrus-)?(?:imap|pop3)(?:d|s|ds)?"
    ),
    (
        pattern(
            "login",
            rf"login:[ ](?:{HOST}[ ]?)?\[{ADDRESS}\][ ](?P<user>[^\s\[\]]{{1,255}}+)[ ]"
            r"(?!(?i:anonymous))[A-Za-z0-9_-]{2,40}(?:\+TLS)?"
            r"(?:[ ]User[ ]logged[ ]in(?:[ ]SESSIONID=<[^<>\[\]]{1,200}>)?)?[ ]?\Z",
        ),
        pattern("failure", r"badlogin:[ ]"),
    ),
    (),
    (b"imap", b"pop"),
    (
        reason(r"login:.*(?i:anonymous)", "an anonymous login"),
        reason(r"login:", "a login line that is not as Cyrus writes it"),
    ),
    "cmd_login() and cmd_authenticate() in imap/imapd.c, imap/pop3d.c",
)
