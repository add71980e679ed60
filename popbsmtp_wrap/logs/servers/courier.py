"""Courier IMAP and POP3, all daemons."""

from typing import Final

from popbsmtp_wrap.logs.pattern import ADDRESS, HOST, Sample, Server, pattern, reason, tags

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
    Sample(
        "Jun 14 10:00:00 mx pop3d: IMAP connect from @ [::ffff:198.51.100.7]INFO: LOGIN, user=bob, "
        "ip=[::ffff:198.51.100.7]",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d: IMAP connect from @ [::ffff:203.0.113.9]INFO: LOGIN, user=bob, "
        "ip=[::ffff:198.51.100.7]"
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d: IMAP connect from @ [203.0.113.9]checkmailpasswd: FAILED: x - "
        "short names not allowed from @ [203.0.113.9]ERR: LOGIN FAILED, ip=[203.0.113.9]"
    ),
    Sample("Jun 14 10:00:00 mx imapd: LOGIN FAILED, user=bob, ip=[::ffff:198.51.100.7]"),
    Sample("Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[::ffff:198.51"),
    Sample("Jun 14 10:00:00 mx courieresmtpd: LOGIN, user=bob, ip=[::ffff:198.51.100.7]"),
)

_WHO = rf"user=(?P<user>[^,\[\]]{{1,255}}+),[ ]ip=\[{ADDRESS}\](?=,[ ]|\Z)"
_INFO = r"(?:INFO:[ ])?"
# Plesk's login daemon logs the connection first; the address is the same.
_PLESK = (
    rf"[A-Za-z0-9._-]{{0,255}}@(?:[ ]|{HOST}[ ])\[{ADDRESS}\]INFO:[ ]LOGIN,[ ]"
    r"user=(?P<user>[^,\[\]]{1,255}+),[ ]ip=\[(?P=address)\](?=,[ ]|\Z)"
)
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
        pattern("login", r"(?:IMAP|POP3?)[ ]connect[ ]from[ ]", _PLESK, *_ONCE),
        # POP 2.0 writes disc; Plesk the time before it.
        pattern(
            "logout",
            rf"(?:[0-9]{{1,12}}\.[0-9]{{1,9}}[ ])?{_INFO}"
            r"(?:LOGOUT|TIMEOUT|DISCONNECTED|disc),[ ](?=user=)",
            _WHO,
            *_ONCE,
        ),
        pattern("failure", rf"{_INFO}LOGIN[ ](?:FAILED|REFUSED)", ""),
    ),
    _COURIER_SAMPLES,
    (
        reason(r".*ip=\[.*ip=\[", "ip= stands in it twice: ambiguous"),
        reason(r"Connection,", "a connection without a login"),
        reason(r"(?:LOGOUT|TIMEOUT|DISCONNECTED),[ ]ip=", "the end of a session without a login"),
    ),
    "auth_reject and LOGIN in imap/imaplogin.c and imap/pop3dserver.c",
    # courierlogger reads 511 bytes at a time, and takes INFO: and blanks off each piece.
    longest_piece=500,
)
# Behind a supervisor's stamp there is no program's name: multilog(8), tai64nlocal(8).
COURIER_OWN_LOG: Final = Server(
    "courier",
    None,
    (
        pattern("login", "INFO:[ ]LOGIN,[ ]", _WHO, *_ONCE),
        pattern(
            "logout",
            r"INFO:[ ](?:LOGOUT|TIMEOUT|DISCONNECTED|disc),[ ](?=user=)",
            _WHO,
            *_ONCE,
        ),
    ),
    (
        Sample(
            "@4000000065a1b2c3075bcd15 INFO: LOGIN, user=bob, ip=[::ffff:198.51.100.7], "
            "protocol=IMAP",
            "198.51.100.7",
            "bob",
        ),
        Sample(
            "2026-06-14 10:00:00.793505500 INFO: LOGIN, user=bob, ip=[198.51.100.7]",
            "198.51.100.7",
            "bob",
        ),
        Sample("@4000000065a1b2c3075bcd15 ERR: LOGIN FAILED, user=bob, ip=[198.51.100.7]"),
        Sample("Jun 14 10:00:00 mx INFO: LOGIN, user=bob, ip=[198.51.100.7]"),
    ),
)
