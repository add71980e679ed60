"""Qpopper 2 to 4, in syslog and in logs of its own."""

from typing import Final

from popbsmtp_wrap.logs.pattern import ADDRESS, Sample, Server, pattern, reason, tags

_QPOPPER_SAMPLES: Final = (
    Sample(
        'Jun 14 10:00:00 mx in.qpopper[77]: (v4.0.9) POP login by user "bob" at '
        "(mail.example.org) 198.51.100.7 [pop_log.c:244]",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        'Jun 14 10:00:00 mx qpopper[77]: (v4.1) POP login by user "bob" at '
        "(198.51.100.7) 198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx popper[77]: Stats: bob 0 0 0 0 mail.example.org 198.51.100.7 "
        "[pop_updt.c:228]",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx popper[77]: Stats: bob 0 0 12 34567 198.51.100.7", "198.51.100.7", "bob"
    ),
    Sample(
        "Jun 14 10:00:00 mx popper[77]: (bob,198.51.100.7) Authenticated.", "198.51.100.7", "bob"
    ),
    Sample(
        "Jun 14 10:00:00 mx qpopper1[77]: Possible probe of account admin from host "
        "evil.example.org 198.51.100.7"
    ),
    Sample(
        "Jun 14 10:00:00 mx in.qpopper[77]: (v4.0.9) Servicing request from "
        '"mail.example.org" at 198.51.100.7'
    ),
)
_QPOPPER_OWN_LOG_SAMPLES: Final = (
    Sample(
        "Jun 14 10:00:00 [popper] (v4.0.9) POP login by user bob at (mail.example.org) "
        "198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Tue Jun 13 10:00:00 2000 [1234] Stats:  bob 0 0 0 0 mail.example.org 198.51.100.7",
        "198.51.100.7",
        "bob",
    ),
)

_HOST = r"[A-Za-z0-9._:-]{1,255}+"
_PLACE = r"(?:[ ]\[[a-z_]{1,40}\.c:[0-9]{1,6}\])?"
_VERSION = r"(?:\([^()\"\n]{1,40}\)[ ])?"
_LOGIN_HEAD = rf"{_VERSION}POP[ ]login[ ]by[ ]user[ ]"
_LOGIN = (
    r"(?:\"(?P<user>[^\"]{1,255}+)\"|(?P<bare>[^\s\"]{1,255}+))"
    rf"[ ]at[ ]\([^()\s]{{1,255}}+\)[ ]{ADDRESS}(?:[ ]via[ ][A-Za-z0-9./-]{{1,40}})?{_PLACE}\Z"
)
# user, messages and bytes deleted, messages and bytes left, host, address (pop_updt.c). Written at
# the end of a session.
_STATS_HEAD = rf"{_VERSION}Stats:[ ]{{1,2}}"
_STATS = (
    r"(?P<user>[^\s]{1,255}+)(?:[ ][0-9]{1,12}){4}"
    rf"[ ](?:{_HOST}[ ]|\[?{_HOST}\]?[ ])?{ADDRESS}{_PLACE}\Z"
)
# The HMS patch.
_HMS = rf"(?P<user>[^\s,()]{{1,255}}+),[ ]?{ADDRESS}\)[ ]Authenticated\.?{_PLACE}\Z"
_BOX = r"\[(?:q?popper|[0-9]{1,10})\][ ]"
_SOURCE = "popper/pop_log.c, popper/pop_updt.c"

QPOPPER: Final = Server(
    "qpopper",
    tags(r"qpopper[A-Za-z0-9._-]{0,20}", r"popper[A-Za-z0-9._-]{0,20}"),
    (
        pattern("login", _LOGIN_HEAD, _LOGIN),
        pattern("login", _STATS_HEAD, _STATS),
        pattern("login", r"\(", _HMS),
    ),
    _QPOPPER_SAMPLES,
    (
        reason(r".*Servicing[ ]request", "a connection without a login"),
        reason(r".*(?:-ERR|[Ff]ailed|Possible[ ]probe)", "a failed login"),
    ),
    _SOURCE,
)
# "DATE [popper] (v4) POP login ..." has a box instead of a tag, "[1234] Stats: ..." a process.
QPOPPER_OWN_LOG: Final = Server(
    "qpopper",
    None,
    (
        pattern("login", _BOX + _LOGIN_HEAD, _LOGIN),
        pattern("login", _BOX + _STATS_HEAD, _STATS),
    ),
    _QPOPPER_OWN_LOG_SAMPLES,
    (),
    _SOURCE,
)
