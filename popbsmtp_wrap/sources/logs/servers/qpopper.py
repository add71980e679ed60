"""Qpopper 2 to 4, in syslog and in logs of its own."""

from typing import Final

from popbsmtp_wrap.sources.logs.pattern import ADDRESS, Server, pattern, reason, tags

_HOST = r"[A-Za-z0-9._:-]{1,255}+"
_PLACE = r"(?:[ ]\[[a-z_]{1,40}\.c:[0-9]{1,6}\])?"
_LOGIN = (
    r"(?:\([^()\"]{1,40}\)[ ])?POP[ ]login[ ]by[ ]user[ ]"
    r"(?:\"(?P<user>[^\"]{1,255}+)\"|(?P<bare>[^\s\"]{1,255}+))"
    rf"[ ]at[ ]\([^()\s]{{1,255}}+\)[ ]{ADDRESS}(?:[ ]via[ ][A-Za-z0-9./-]{{1,40}})?{_PLACE}\Z"
)
# user, messages and bytes deleted, messages and bytes left, host, address (pop_updt.c). Written at
# the end of a session.
_STATS = (
    r"(?:\([^()\"]{1,40}\)[ ])?Stats:[ ]{1,2}(?P<user>[^\s]{1,255}+)(?:[ ][0-9]{1,12}){4}"
    rf"[ ](?:{_HOST}[ ]|\[?{_HOST}\]?[ ])?{ADDRESS}{_PLACE}\Z"
)
# The HMS patch.
_HMS = rf"\((?P<user>[^\s,()]{{1,255}}+),[ ]?{ADDRESS}\)[ ]Authenticated\.?{_PLACE}\Z"
_WORDS = (b"pop", b"Stats:")
_SOURCE = "popper/pop_log.c, popper/pop_updt.c"

QPOPPER: Final = Server(
    "qpopper",
    tags(r"(?:in\.)?q?popper[A-Za-z0-9._-]{0,20}"),
    (pattern("login", _LOGIN), pattern("login", _STATS), pattern("login", _HMS)),
    (),
    _WORDS,
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
        pattern("login", rf"\[(?:q?popper|[0-9]{{1,10}})\][ ]{_LOGIN}"),
        pattern("login", rf"\[(?:q?popper|[0-9]{{1,10}})\][ ]{_STATS}"),
    ),
    (),
    _WORDS,
    (),
    _SOURCE,
)
