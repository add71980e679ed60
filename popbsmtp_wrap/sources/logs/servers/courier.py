"""Courier IMAP and POP3, all daemons."""

from typing import Final

from popbsmtp_wrap.sources.logs.pattern import ADDRESS, Sample, Server, pattern, reason, tags

_COURIER_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[::ffff:198.51.100.7], port=[1], "
        "protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d: LOGIN, user=bob, ip=[::ffff:198.51.100.7], port=[1], "
        "protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapd-ssl: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d-ssl: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx courierpop3login: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx courierimaplogin: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imaplogin: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3login: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapd[77]: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx [pop3d]: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx courier-imapd: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
        "port=[1], protocol=IMAP",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d: LOGIN, user=bob@example.org, ip=[::ffff:198.51.100.7]",
        "198.51.100.7",
        "bob@example.org",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[2001:db8::7], port=[1], "
        "protocol=IMAP, stls=1",
        "2001:db8::7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapd: LOGIN, user=x, ip=[203.0.113.6], "
        "ip=[::ffff:198.51.100.7], port=[1]"
    ),
    Sample("Jun 14 10:00:00 mx imapd: LOGIN FAILED, user=bob, ip=[::ffff:198.51.100.7]"),
    Sample("Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[::ffff:198.51"),
    Sample("Jun 14 10:00:00 mx courieresmtpd: LOGIN, user=bob, ip=[::ffff:198.51.100.7]"),
)

_WHO = rf"user=(?P<user>[^,\[\]]{{1,255}}+),[ ]ip=\[{ADDRESS}\](?=,[ ]|\Z)"
_INFO = r"(?:INFO:[ ])?"
_ONCE = ("ip=[", "user=")

COURIER: Final = Server(
    "courier",
    tags(
        *(
            name + r"(?:d|login)(?:-ssl)?"
            for name in ("imap", "pop3", "courier-?imap", "courier-?pop3", "couriertcp")
        )
    ),
    (
        pattern("login", rf"{_INFO}LOGIN,[ ]", _WHO, *_ONCE),
        pattern("logout", rf"{_INFO}(?:LOGOUT|TIMEOUT|DISCONNECTED),[ ](?=user=)", _WHO, *_ONCE),
        pattern("failure", rf"{_INFO}LOGIN[ ](?:FAILED|REFUSED)", ""),
    ),
    _COURIER_SAMPLES,
    (
        reason(r".*ip=\[.*ip=\[", "ip= stands in it twice: ambiguous"),
        reason(r"Connection,", "a connection without a login"),
        reason(r"(?:LOGOUT|TIMEOUT|DISCONNECTED),[ ]ip=", "the end of a session without a login"),
    ),
    "auth_reject and LOGIN in imap/imaplogin.c and imap/pop3dserver.c",
)
