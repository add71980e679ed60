"""Cyrus IMAP 2 and 3."""

from typing import Final

from popbsmtp_wrap.sources.logs.pattern import ADDRESS, HOST, Sample, Server, pattern, reason, tags

_CYRUS_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: login: mail.example.org [198.51.100.7] bob "
        "plaintext+TLS User logged in",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imaps[77]: login: mail.example.org [198.51.100.7] bob "
        "plaintext+TLS User logged in SESSIONID=<cyrus-1-1-1>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx sloti30t15/imap[77]: login: mail.example.org [198.51.100.7] "
        "bob plaintext+TLS User logged in",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapd[77]: login: mail.example.org [198.51.100.7] bob "
        "plaintext+TLS User logged in",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d[77]: login: mail.example.org [198.51.100.7] bob "
        "plaintext+TLS User logged in",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/pop3s[77]: login: mail.example.org [198.51.100.7] bob "
        "plaintext+TLS User logged in",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: login: [2001:db8::7] bob SCRAM-SHA-256+TLS "
        "User logged in SESSIONID=<a-1>",
        "2001:db8::7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imap[77]: login: mail.example.org[198.51.100.7] bob plaintext",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: login: [198.51.100.7] anonymous ANONYMOUS "
        "User logged in"
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: badlogin: evil.example.org [203.0.113.9] "
        "plaintext login: [198.51.100.7] x User logged in SASL(-13)"
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/timsieved[77]: login: [198.51.100.7] bob PLAIN User logged in"
    ),
)

CYRUS: Final = Server(
    "cyrus",
    # syslog_prefix/service of cyrus.conf; Debian cyrus/imap, Fastmail sloti30t15/imap.
    tags(
        r"imap(?:d|s|ds)?",
        r"pop3(?:d|s|ds)?",
        r"cyrus-(?:imap|pop3)(?:d|s|ds)?",
        r"[a-z][A-Za-z0-9_.-]{0,40}/(?:imap|pop3)[a-z0-9_-]{0,20}",
    ),
    (
        pattern(
            "login",
            "login:[ ]",
            rf"(?:{HOST}[ ]?)?\[{ADDRESS}\][ ](?P<user>[^\s\[\]]{{1,255}}+)[ ]"
            r"(?!(?i:anonymous))[A-Za-z0-9_-]{2,40}(?:\+TLS)?"
            r"(?:[ ]User[ ]logged[ ]in(?:[ ]SESSIONID=<[^<>\[\]]{1,200}>)?)?[ ]?\Z",
        ),
        pattern("failure", "badlogin:[ ]", ""),
    ),
    _CYRUS_SAMPLES,
    (
        reason(r"login:.*(?i:anonymous)", "an anonymous login"),
        reason(r"login:", "a login line that is not as Cyrus writes it"),
    ),
    "cmd_login() and cmd_authenticate() in imap/imapd.c, imap/pop3d.c",
)
