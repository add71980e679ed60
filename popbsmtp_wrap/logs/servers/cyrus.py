"""Cyrus IMAP 2 and 3."""

from typing import Final

from popbsmtp_wrap.logs.pattern import ADDRESS, HOST, Sample, Server, pattern, reason, tags

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
        "Jun 14 10:00:00 mx cyrus/imap[77]: event=login.good r.sessionid=a-1 "
        'r.clienthost="mail.example.org [198.51.100.7]" u.username=bob login.mech=plaintext '
        'login.tls=1 login.magic=""',
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/pop3[77]: event=login.good r.sessionid=a-1 "
        'r.clienthost="[2001:db8::7]" u.username=bob@example.org login.mech=SCRAM-SHA-256',
        "2001:db8::7",
        "bob@example.org",
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: event=login.good r.sessionid=a-1 "
        'r.clienthost="[198.51.100.7]" u.username=anonymous login.mech=anonymous login.tls=1'
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: event=login.good r.sessionid=a-1 "
        'r.clienthost="[198.51.100.7]" u.username=bob login.mech=ANONYMOUS login.tls=1'
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: event=login.bad r.sessionid=a-1 "
        'r.clienthost="[203.0.113.9]" u.username=bob login.mech=plaintext error="x"'
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: event=login.bad r.sessionid=a-1 u.username="
        '"event=login.good r.clienthost=[198.51.100.7] u.username=x" r.clienthost="[203.0.113.9]"'
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/imap[77]: event=login.good r.sessionid=a-1 "
        'u.username="x r.clienthost=[198.51.100.7]" r.clienthost="[203.0.113.9]"'
    ),
    Sample(
        "Jun 14 10:00:00 mx cyrus/timsieved[77]: login: [198.51.100.7] bob PLAIN User logged in"
    ),
)

# logfmt of 3.13: a value with blanks or brackets stands in quotes.
_FIELD = r"(?:[ ][a-z][a-z0-9._-]{0,40}=(?:\"[^\"\\]{0,1000}\"|[^\s\"=]{0,1000}))"

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
        pattern(
            "login",
            r"event=login[.]good(?=[ ])",
            # Each field once, in any order, to the end of the line.
            rf"(?={_FIELD}*?[ ]r[.]clienthost=\"?(?:{HOST}[ ]?)?\[{ADDRESS}\]\"?(?=[ ]|\Z))"
            rf"(?={_FIELD}*?[ ]u[.]username=(?:\"(?P<user>[^\s\"\\]{{1,255}}+)\"|"
            r"(?P<bare>[^\s\"=\[\]]{1,255}+))(?=[ ]|\Z))"
            rf"(?!{_FIELD}*?[ ]login[.]mech=\"?(?i:anonymous))"
            rf"{_FIELD}+\Z",
            "r.clienthost=",
            "u.username=",
            "event=",
        ),
        pattern("failure", "badlogin:[ ]", ""),
        pattern("failure", "event=login[.]bad[ ]", ""),
    ),
    _CYRUS_SAMPLES,
    (
        reason(r"login:.*(?i:anonymous)", "an anonymous login"),
        reason(r"login:", "a login line that is not as Cyrus writes it"),
    ),
    "cmd_login() and cmd_authenticate() in imap/imapd.c, imap/pop3d.c",
)

# APP-NAME of RFC 5424, as rsyslog cuts it at the slash: any of Cyrus' daemons. IMAP and POP name
# the session behind a login, timsieved does not.
CYRUS_OF_ANY_NAME: Final = Server(
    "cyrus",
    tags("cyrus"),
    (
        pattern(
            "login",
            "login:[ ]",
            rf"(?:{HOST}[ ]?)?\[{ADDRESS}\][ ](?P<user>[^\s\[\]]{{1,255}}+)[ ]"
            r"(?!(?i:anonymous))[A-Za-z0-9_-]{2,40}(?:\+TLS)?"
            r"[ ]User[ ]logged[ ]in[ ]SESSIONID=<[^<>\[\]]{1,200}>[ ]?\Z",
        ),
        pattern("failure", "badlogin:[ ]", ""),
    ),
    (
        Sample(
            "<21>1 2026-06-14T10:00:00.1+00:00 mx cyrus 77 - -  login: [198.51.100.7] bob "
            "plaintext User logged in SESSIONID=<a-1>",
            "198.51.100.7",
            "bob",
        ),
        Sample(
            "<21>1 2026-06-14T10:00:00.1+00:00 mx cyrus 77 - -  login: [198.51.100.7] bob PLAIN "
            "User logged in"
        ),
    ),
    (reason(r"login:", "a login line without a session: perhaps of timsieved"),),
    "cmd_login() and cmd_authenticate() in imap/imapd.c, imap/pop3d.c, timsieved/parser.c",
)
