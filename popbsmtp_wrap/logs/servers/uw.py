"""UW ipop3d and imapd."""

from typing import Final

from popbsmtp_wrap.logs.pattern import ADDRESS, HOST, Sample, Server, pattern, reason, tags

_UW_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 mx ipop3d[77]: Login user=bob host=mail.example.org "
        "[198.51.100.7] nmsgs=0/0",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapd[77]: Authenticated user=bob host=mail.example.org "
        "[198.51.100.7] nmsgs=0/0",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx ipop3d[77]: APOP user=bob host=mail.example.org "
        "[198.51.100.7] nmsgs=0/0",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx imapsd[77]: Auth user=bob host=mail.example.org "
        "[198.51.100.7] nmsgs=0/0",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx ipop3sd[77]: Login user=bob host=mail.example.org "
        "[198.51.100.7] nmsgs=0/0",
        "198.51.100.7",
        "bob",
    ),
    Sample("imapd[77]: Authenticated user=bob host=[198.51.100.7]", "198.51.100.7", "bob"),
    Sample("Jun 14 10:00:00 mx ipop3d[77]: Login user=bob host=mail.example.org"),
    Sample("Jun 14 10:00:00 mx ipop3d[77]: Login user=x host=[203.0.113.6] host=[198.51.100.7]"),
    Sample(
        "Jun 14 10:00:00 mx imapd[77]: Login failed user=bob auth=bob "
        "host=mail.example.org [198.51.100.7]"
    ),
)

# nmsgs=, ndele= and mech= follow.
_REST = r"(?>(?:[ ](?!user=|host=)[a-z]{2,10}=[A-Za-z0-9/_+-]{1,40})*)[ ]?\Z"
_WHO = rf"user=(?P<user>[^\s=]{{1,80}}+)[ ]host=(?:{HOST}[ ])?\[{ADDRESS}\]{_REST}"

UW: Final = Server(
    "uw",
    tags(r"ipop3s?d", r"imaps?d", "ipop2d"),
    (
        pattern(
            "login",
            r"(?:\[[^\]\n]{1,40}\][ ]?)?(?:Login|Authenticated|Auth|APOP)[ ]",
            _WHO,
            "user=",
            "host=",
        ),
        pattern(
            "logout",
            r"(?:Logout|Autologout|Killed[A-Za-z ,/-]{0,60}|Command[ ]stream[ ]end[ ]of[ ]file"
            r"[A-Za-z ,/-]{0,60}|Broken[ ]connection[A-Za-z ,/-]{0,60})[ ]",
            _WHO,
            "user=",
            "host=",
        ),
        pattern(
            "failure",
            r"Login[ ](?:failed|excessive|disabled)|AUTHENTICATE[ ][^ ]{1,40}[ ]failure"
            r"|Failed[ ][^ ]{1,80}[ ]override|refused[ ]connect",
            "",
        ),
    ),
    _UW_SAMPLES,
    (
        reason(r".*host=.*host=", "host= stands in it twice: ambiguous"),
        reason(r".*override[ ]of[ ]user=", "an administrator's login as somebody"),
        reason(r".*host=[^\[]*\Z", "a host's name without its address"),
    ),
    "src/ipopd/ipop3d.c and src/imapd/imapd.c",
)
