"""Servers of one line that need no module of their own."""

from typing import Final

from popbsmtp_wrap.logs.pattern import ADDRESS, HOST, Sample, Server, pattern, reason, tags

_VPOPMAIL_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 mx vpopmail[77]: vchkpw-pop3s: (PLAIN) login success "
        "bob@example.org:198.51.100.7",
        "198.51.100.7",
        "bob@example.org",
    ),
    Sample(
        "Jun 14 10:00:00 mx vchkpw-imap[77]: (CRAM-MD5) login success bob@example.org:198.51.100.7",
        "198.51.100.7",
        "bob@example.org",
    ),
    Sample(
        "Jun 14 10:00:00 mx vpopmail[77]: vchkpw: login [bob@example.org] from 198.51.100.7",
        "198.51.100.7",
        "bob@example.org",
    ),
    Sample(
        "Jun 14 10:00:00 mx vpopmail[77]: vchkpw-webmail: (PLAIN) login success "
        "bob@example.org:198.51.100.7"
    ),
    Sample(
        "Jun 14 10:00:00 mx vpopmail[77]: vchkpw-smtp: (PLAIN) login success "
        "bob@example.org:198.51.100.7"
    ),
)
_VPOP3D_SAMPLES: Final = (
    Sample("Jun 14 10:00:00 mx vpop3d: (bob,198.51.100.7) Authenticated", "198.51.100.7", "bob"),
    Sample("Jun 14 10:00:00 mx vpop3d: (bob,198.51.100.7) Authentication failed"),
    Sample("Jun 14 10:00:00 mx vpop3d: (x,198.51.100.7) Authenticated,203.0.113.9) Authenticated"),
)
_CUCIPOP_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 mx cucipop[77]: bob 198.51.100.7 1, 2 (3), 4 (5)", "198.51.100.7", "bob"
    ),
)
_TEAPOP_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 mx teapop[77]: Successful login for bob@example.org [192.0.2.1] "
        "from mail.example.org [198.51.100.7]",
        "198.51.100.7",
        "bob@example.org",
    ),
)
_PERDITION_SAMPLES: Final = (
    Sample(
        'Jun 14 10:00:00 mx perdition[77]: Auth: 198.51.100.7->192.0.2.1 user="bob" '
        'server="imap.example.org" port="143" status="ok"',
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx perdition.imaps[77]: Auth: 198.51.100.7:2274->192.0.2.1:993 "
        'client-secure=ssl authorisation_id=NONE authentication_id="bob" '
        'server="imap.example.org:993" protocol=IMAP4S server-secure=ssl status="ok"',
        "198.51.100.7",
        "bob",
    ),
    Sample(
        'Jun 14 10:00:00 mx perdition[77]: Auth: 198.51.100.7->192.0.2.1 user="bob" '
        'server="imap.example.org" port="143" status="failed: local"'
    ),
)
_APPLE_SAMPLES: Final = (
    Sample(
        'Apr 30 2003 10:00:00  IMAP User "bob" log on successful from 198.51.100.7',
        "198.51.100.7",
        "bob",
    ),
)
_ZIMBRA_SAMPLES: Final = (
    Sample(
        "2026-01-02 03:04:05,678 INFO  [ImapSSLServer-12] "
        "[name=bob@example.org;ip=192.0.2.1;oip=198.51.100.7;via=192.0.2.1(nginx/1.7.1);u"
        "a=x;cid=42;] imap - user bob@example.org authenticated, mechanism=LOGIN [TLS]",
        "198.51.100.7",
        "bob@example.org",
    ),
)
_EXCHANGE_SAMPLES: Final = (
    Sample(
        "2026-01-02T03:04:05.678Z,0000000000000010,2,192.0.2.1:143,198.51.100.7:51234,bob"
        ",12,25,27,login,bob *****,R=OK,",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-01-02T03:04:05.678Z,0000000000000010,2,192.0.2.1:993,198.51.100.7:51234,bob,12,25,27,"
        'login,bob@example.org *****,"R=ok;Msg=""Proxy:EX1.example.org:1993:SSL;ProxySuccess""",',
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-01-02T03:04:05.678Z,0000000000000010,2,192.0.2.1:110,198.51.100.7:51234,bob,12,25,27,"
        "auth, PLAIN,R=OK,",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-01-02T03:04:05.678Z,0000000000000010,2,192.0.2.1:143,198.51.100.7:51234,bob,12,25,27,"
        'login,"bob *****,R=OK,",R="1 NO LOGIN failed."'
    ),
)

VPOPMAIL: Final = Server(
    "vpopmail",
    tags("vpopmail", r"vchkpw(?:-pop3s?|-imaps?)?"),
    (
        # The port decides the name: vchkpw-smtp and vchkpw-webmail prove nothing of the client.
        pattern(
            "login",
            r"(?:vchkpw-(?P<service>pop3s?|imaps?):[ ])?\((?:PLAIN|LOGIN|APOP|CRAM-MD5)\)[ ]"
            r"login[ ]success[ ]",
            rf"(?P<user>[^\s:]{{1,255}}+):{ADDRESS}\Z",
        ),
        pattern(
            "login",
            r"(?:vchkpw:[ ])?login[ ]\[",
            rf"(?P<user>[^\s\[\]]{{1,255}}+)\][ ]from[ ]{ADDRESS}\Z",
        ),
        pattern(
            "failure",
            r"(?:vchkpw-(?P<service>[a-z0-9]{1,12}):[ ])?(?:password[ ]fail|null[ ])",
            "",
        ),
    ),
    _VPOPMAIL_SAMPLES,
    (reason(r"vchkpw-(?!pop3|imap)", "no POP or IMAP login"),),
    "vchkpw.c",
)
VPOP3D: Final = Server(
    "vpop3d",
    tags("vpop3d"),
    (
        pattern("login", r"\(", rf"(?P<user>[^\s(),]{{1,255}}+),{ADDRESS}\)[ ]Authenticated\Z"),
        pattern("failure", r"\(", r"[^()]{0,300}+\)[ ](?!Authenticated\Z)"),
    ),
    _VPOP3D_SAMPLES,
    (),
    "poprelay_vpopd of Mail-POPRelay",
)
CUCIPOP: Final = Server(
    "cucipop",
    tags("cucipop"),
    (
        pattern(
            "login",
            "",
            rf"(?P<user>[^\s]{{1,255}}+)[ ]{ADDRESS}[ ][0-9]{{1,9}},[ ][0-9]{{1,9}}[ ]"
            r"\([0-9]{1,12}\),[ ][0-9]{1,9}[ ]\([0-9]{1,12}\)\Z",
        ),
    ),
    _CUCIPOP_SAMPLES,
    (),
    "cucipop.c; pop-before-smtp-conf.pl",
)
# The first bracket is the server's own address, the second one the client's.
TEAPOP: Final = Server(
    "teapop",
    tags("teapop"),
    (
        pattern(
            "login",
            "Successful[ ]login[ ]for[ ]",
            r"(?P<user>[^\s\[\]]{1,255}+)"
            rf"[ ]\[[0-9A-Fa-f:.]{{2,45}}+\][ ]from[ ](?:{HOST}[ ])?\[{ADDRESS}\]\Z",
        ),
        pattern("failure", "(?:Failed|Unsuccessful)[ ]login", ""),
    ),
    _TEAPOP_SAMPLES,
    (),
    "teapop/pop-main.c; popauth.watcher",
)
_ID = r"authorisation_id=NONE[ ]authentication_id"
PERDITION: Final = Server(
    "perdition",
    tags(r"perdition(?:\.(?:imap4?s?|pop3s?|imap4s))?"),
    (
        pattern(
            "login",
            # [address]:port of IPv6, address:port, and without ports before 1.17.
            "Auth:[ ]",
            r"(?:(?P<address>[0-9.]{7,15}+)(?::[0-9]{1,5})?"
            r"|\[(?P<other>[0-9A-Fa-f:.]{2,45}+)\](?::[0-9]{1,5})?)"
            r"->[0-9A-Za-z:.\[\]]{2,60}[ ](?:client-secure=[a-z0-9]{1,20}[ ])?"
            rf"(?:{_ID}|user)=\"(?P<user>[^\"]{{1,255}}+)\"[ ]server=\"[^\"]{{1,255}}+\""
            r"(?:(?:[ ]port=\"[^\"]{1,30}\")?(?:[ ]protocol=(?P<service>IMAP4S?|POP3S?))?"
            r"(?:[ ]server-secure=[a-z0-9]{1,20})?[ ]status=\"ok\""
            # Old ones write the line for a success only, and no status.
            r"|[ ]port=\"[0-9]{1,5}\")\Z",
            "status=",
        ),
        pattern("failure", "Auth:[ ]", r".*status=\"(?!ok\")"),
        pattern("failure", "Fatal[ ]Error", ""),
    ),
    _PERDITION_SAMPLES,
    (reason(r"Auth:.*authorisation_id=(?!NONE)", "a login as somebody else"),),
    "perdition/perdition.c",
)
APPLE: Final = Server(
    "apple",
    None,
    (
        pattern(
            "login",
            r"(?P<service>IMAP|POP3?)[ ]User[ ]\"",
            r"(?P<user>[^\"]{1,255}+)\""
            rf"[ ]log[ ]on[ ]successful[ ]from[ ]{ADDRESS}\Z",
        ),
    ),
    _APPLE_SAMPLES,
    (),
    "AppleMailServer.IMAP.log; pop-before-smtp-conf.pl",
)
# What stands before ua= Zimbra writes; ua= is the client's own text. oip is the client behind
# Zimbra's proxy; without one there is no via either.
ZIMBRA: Final = Server(
    "zimbra",
    None,
    (
        pattern(
            "login",
            r"INFO[ ]{1,2}\[(?:Imap|Pop3)[A-Za-z]{0,20}-[0-9]{1,9}\][ ]",
            r"\[(?:name=(?P<name>[^;\[\]]{1,255}+);)?(?:mid=[0-9]{1,12};)?"
            rf"(?:ip=[0-9A-Fa-f:.]{{2,45}}+;oip={ADDRESS};|ip=(?P<other>[0-9A-Fa-f:.]{{2,45}}+);"
            r"(?!.*(?:ip|via)=))(?P<rest>[^\[\]]{0,400}+)\][ ](?P<service>imap|pop)[ ]-[ ]user[ ]"
            r"(?P<user>[^\s\[\]]{1,255}+)[ ]authenticated,[ ]mechanism=[A-Z0-9-]{5,20}"
            r"(?:[ ]\[TLS\])?\Z",
            "oip=",
        ),
    ),
    _ZIMBRA_SAMPLES,
    (),
    "ImapHandler and Pop3Handler of ZimbraServer; its shape was not seen on a running server",
)
# After the time: session, number, server's and client's address, user, three numbers, command,
# parameters, result.
EXCHANGE: Final = Server(
    "exchange",
    None,
    (
        pattern(
            "login",
            "[0-9A-Fa-f]{16},",
            r"[0-9]{1,9},[0-9A-Fa-f:.\[\]]{2,60}:[0-9]{1,5},"
            r"(?:(?P<address>[0-9.]{7,15}+)|\[(?P<other>[0-9A-Fa-f:.]{2,45}+)\]):[0-9]{1,5},"
            r"(?P<user>[^,\"]{1,255}+)(?:,[0-9]{1,9}){3},(?i:login|pass|auth(?:enticate)?),"
            # RFC 4180: a value with commas or quotes stands in quotes, its own ones doubled.
            r"(?:[^,\"]{0,300}+|\"[^\"]{0,300}+(?:\"\"[^\"]{0,300}+){0,9}\"),"
            r"(?:(?i:R=OK)(?:;[^,\"]{0,300}+)?"
            r"|\"(?i:R=OK)(?:;[^\"]{0,300}+(?:\"\"[^\"]{0,300}+){0,9})?\"),?\Z",
        ),
    ),
    _EXCHANGE_SAMPLES,
    (),
    "POP3 and IMAP4 protocol logging of Exchange; not seen on a running server",
)
