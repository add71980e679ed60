"""Servers that log the address in one line and the user in another: joined by process."""

from typing import Final

from popbsmtp_wrap.logs.pattern import ADDRESS, HOST, Sample, Server, pattern, tags

_POPA3D_SAMPLES: Final = (
    Sample("Jun 14 10:00:00 mx popa3d[77]: Session from 198.51.100.7"),
    Sample("Jun 14 10:00:00 mx popa3d[77]: Authentication passed for bob", "198.51.100.7", "bob"),
    Sample("Jun 14 10:00:00 mx popa3d[80]: connect from 198.51.100.7"),
    Sample("Jun 14 10:00:00 mx popa3d[80]: Authentication passed for bob", "198.51.100.7", "bob"),
    Sample("Jun 14 10:00:00 mx popa3d[78]: Authentication passed for bob"),
    Sample("Jun 14 10:00:00 mx popa3d[79]: Session from 198.51.100.7"),
    Sample("Jun 14 10:00:00 mx popa3d[79]: Authentication failed for bob"),
    Sample("Jun 14 10:00:00 mx popa3d[79]: Authentication passed for bob"),
    Sample(
        "Jun 14 10:00:00 mx popa3d[77]: Authentication passed for bob -- [198.51.100.7]",
        "198.51.100.7",
        "bob",
    ),
)
_SOLID_POP3D_SAMPLES: Final = (
    Sample("Jun 14 10:00:00 mx spop3d[77]: connect from 198.51.100.7"),
    Sample("Jun 14 10:00:00 mx spop3d[77]: user bob authenticated", "198.51.100.7", "bob"),
    Sample(
        "Jun 14 10:00:00 mx solid-pop3d[77]: user bob authenticated - 198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx spop3d[77]: mapped user bob authenticated - 198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
    Sample("Jun 14 10:00:00 mx solid-pop3d[77]: authentication failed for user bob - 198.51.100.7"),
)
_VM_POP3D_SAMPLES: Final = (
    Sample("Jun 14 10:00:00 mx vm-pop3d[77]: Connect from 198.51.100.7"),
    Sample("Jun 14 10:00:00 mx vm-pop3d[77]: User 'bob' logged in", "198.51.100.7", "bob"),
    Sample(
        "Jun 14 10:00:00 mx vm-pop3d[77]: User 'bob@example.org' logged in from "
        "198.51.100.7, nmsgs=3",
        "198.51.100.7",
        "bob@example.org",
    ),
    Sample(
        "Jun 14 10:00:00 mx vm-pop3d[77]: User 'x logged in from 198.51.100.7' - failed "
        "auth, from=203.0.113.9"
    ),
)
_GNU_POP3D_SAMPLES: Final = (
    Sample("Jun 14 10:00:00 mx pop3d[77]: connect from 198.51.100.7"),
    Sample(
        "Jun 14 10:00:00 mx pop3d[77]: user `bob' logged in with mailbox `/var/mail/bob' (2 "
        "messages)",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx pop3d[78]: user `bob' logged in with mailbox `/var/mail/bob' (2 "
        "messages)"
    ),
    Sample(
        "Jun 14 10:00:00 mx gnu-pop3d[77]: User `bob' logged in with mailbox "
        "`/var/mail/bob' from 198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx gnu-pop3d[77]: User bob logged in with mailbox /var/mail/bob "
        "from 198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
)

_QUOTED = r"[`'\"](?P<user>[^`'\"]{1,255}+)['\"]"
_FROM = rf"(?:{HOST}[ ])?[\[(]?{ADDRESS}[\])]?\Z"

POPA3D: Final = Server(
    "popa3d",
    tags("popa3d"),
    (
        # Under inetd, tcpd logs the connection, with the same process ID.
        pattern("connect", "Session[ ]from[ ]|connect[ ]from[ ]", _FROM),
        # With the patch of pop-before-smtp the address stands in the same line.
        pattern(
            "login",
            "Authentication[ ]passed[ ]for[ ]",
            r"(?P<user>[^\s\[\]]{1,255}+)"
            rf"[ ]--[ ]\[{ADDRESS}\]\Z",
        ),
        pattern("login", "Authentication[ ]passed[ ]for[ ]", r"(?P<user>[^\s\[\]]{1,255}+)\Z"),
        pattern("failure", "Authentication[ ]failed|Didn't[ ]attempt|Premature", ""),
    ),
    _POPA3D_SAMPLES,
    (),
    "pop_root.c and standalone.c; contrib/popa3d of pop-before-smtp",
)
SOLID_POP3D: Final = Server(
    "solid-pop3d",
    tags("spop3d", "solid-pop3d"),
    (
        pattern("connect", "connect[ ]from[ ]", _FROM),
        # --enable-logextend
        pattern(
            "login",
            "(?:mapped[ ]|APOP[ ])?user[ ]",
            r"(?P<user>[^\s]{1,255}+)[ ]authenticated"
            rf"[ ]-[ ](?:{HOST}[ ])?[\[(]?{ADDRESS}[\])]?\Z",
        ),
        pattern(
            "login",
            "(?:mapped[ ]|APOP[ ])?user[ ]",
            r"(?P<user>[^\s]{1,255}+)[ ]authenticated\Z",
        ),
        pattern("failure", "(?:APOP[ ])?authentication[ ]failed|root[ ]login|can't[ ]find", ""),
    ),
    _SOLID_POP3D_SAMPLES,
    (),
    "src/main.c and src/log.h",
)
VM_POP3D: Final = Server(
    "vm-pop3d",
    tags("vm-pop3d"),
    (
        pattern("connect", "[Cc]onnect[ ]from[ ]", _FROM),
        pattern(
            "login",
            "User[ ]",
            rf"{_QUOTED}[ ]logged[ ]in[ ]from[ ]{ADDRESS}(?:,[ ]nmsgs=[0-9]{{1,9}})?\Z",
        ),
        pattern("login", "User[ ]", rf"{_QUOTED}[ ]logged[ ]in(?:,[ ]nmsgs=[0-9]{{1,9}})?\Z"),
        pattern("failure", "User[ ]", ".*failed[ ]auth"),
    ),
    _VM_POP3D_SAMPLES,
    (),
    "user.c and vm-pop3d.c",
)
GNU_POP3D: Final = Server(
    "gnu-pop3d",
    tags("gnu-pop3d", "pop3d"),
    (
        pattern("connect", "(?:Connect|connect)[ ]from[ ]", _FROM),
        pattern(
            "login",
            "User[ ]",
            r"(?:[`'\"](?P<user>[^`'\"]{1,255}+)['\"]|(?P<bare>[^\s`'\"]{1,255}+))"
            r"[ ]logged[ ]in[ ]with[ ]mailbox[ ][`'\"]?[^\s`'\"]{1,255}+['\"]?"
            rf"[ ]from[ ]{ADDRESS}\Z",
        ),
        pattern(
            "login",
            # GNU mailutils counts the messages behind it.
            "[Uu]ser[ ]",
            r"(?:[`'\"](?P<user>[^`'\"]{1,255}+)['\"]|(?P<bare>[^\s`'\"]{1,255}+))"
            r"[ ]logged[ ]in[ ]with[ ]mailbox[ ][`'\"]?[^\s`'\"]{1,255}+['\"]?"
            r"(?:[ ]\([0-9]{1,9}[ ](?:msgs|messages?)\))?\Z",
        ),
        pattern("failure", "User[ ]", r".*:[ ]authentication[ ]failed"),
        pattern("failure", "No[ ]such[ ]user", ""),
    ),
    _GNU_POP3D_SAMPLES,
    (),
    "gnu-pop3d user.c; GNU mailutils pop3d/user.c",
)
