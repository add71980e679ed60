"""Which lines of a log are worth a look: one regular expression over many lines at once.

It passes over a line only where its program is known for certain and none of ours, or where its
message begins like nothing that is looked for. Everything else is for the recogniser, which judges
as if there were no gate.
"""

import re
from collections.abc import Collection, Iterable
from typing import Final

from popbsmtp_wrap.logs.event import Kind
from popbsmtp_wrap.logs.header import LEVEL
from popbsmtp_wrap.logs.pattern import PATH, Pattern, Server

# The usual times, and only those, so that it is quick. What only looks like a time of this kind
# is followed by no program's name either, see header.py.
_STAMP: Final = (
    rb"(?:(?:[A-Z][a-z]{2}[ ].{2}[ ]|[0-9]{4}-.{2}-.{2}[T ]).{2}:.{2}:.{2}[^ ,\n]*+"
    rb"|@[0-9a-f]{24})"
)
_HOST: Final = b"(?>" + LEVEL + rb")(?>(?:[^ \n]{1,255}+(?<![]:])[ ])?)"
_PID: Final = rb"(?:\[[0-9]{1,10}\])?"
# Of RFC 5424: PROCID and MSGID, and what may stand before UTF-8.
_IDS: Final = rb"[ ][^ \n]++[ ][^ \n]++[ ]"
_BOM: Final = rb"(?:\xef\xbb\xbf)?"
_NAMED_GROUP: Final = re.compile(rb"\(\?P<[a-z]+>")
_NOTHING: Final = rb"(?!)"


def prefilter(
    servers: Collection[Server], own_words: Collection[bytes], kinds: Collection[Kind]
) -> re.Pattern[bytes]:
    """Return what finds lines behind a line end; its first group is the line without its own.

    Lines that can be none of *kinds* are passed over, unless they hold one of *own_words* or tell
    which client a later line is about.
    """
    usual_of_ours: list[bytes] = []
    rfc5424_of_ours: list[bytes] = []
    bare: list[bytes] = []
    for server in servers:
        heads = [_NAMED_GROUP.sub(b"(?:", p.head) for p in _wanted(server, kinds)]
        if not server.tag:
            bare += heads
        elif heads:
            if server.longest_piece:
                heads.append(rb"[^\n]{%d}" % server.longest_piece)
            head = _one_of(heads)
            for program in server.tag.programs:
                # Solaris writes a message's number before it, syslog-ng what it knows of it.
                usual_of_ours.append(program + _PID + rb":[ ](?:\[ID[ ]|" + head + b")")
                rfc5424_of_ours.append(program + _IDS + rb"(?:\[|-[ ]{1,2}" + _BOM + head + b")")
    # A message without a tag begins behind the time, or a zone that stands apart.
    other = b"(?!" + _one_of(bare) + b")"
    usual = (
        rb"(?:<[0-9]{1,3}>)?" + _STAMP + b"[ ]" + other + _HOST + other
        + b"(?!" + PATH + _one_of(usual_of_ours) + rb")[^ :\[\n]{1,80}+" + _PID + b":[ ]"
    )  # fmt: skip
    rfc5424 = (
        rb"<[0-9]{1,3}>1[ ][^ \n]++[ ][^ \n]++[ ]"
         b"(?!" + PATH + _one_of(rfc5424_of_ours) + rb")[^ \n]++" + _IDS
    )  # fmt: skip
    passed_over = b"(?:" + usual + b"|" + rfc5424 + b")"
    if own_words:
        words = _one_of([re.escape(word) for word in own_words])
        passed_over = b"(?=" + passed_over + rb")(?![^\n]*" + words + b")"
    return re.compile(rb"\n(?!" + passed_over + rb")([^\n]++)", re.VERBOSE)


def _wanted(server: Server, kinds: Collection[Kind]) -> list[Pattern]:
    roles = {pattern.role for pattern in server.patterns}
    # They give the client of a later line, or say that the line is no login.
    joined = {"connect", "failure"} if "connect" in roles else set()
    return [pattern for pattern in server.patterns if pattern.role in {*kinds, *joined}]


def _one_of(regexes: Iterable[bytes]) -> bytes:
    # In their order, each once.
    several = list(dict.fromkeys(regexes)) or [_NOTHING]
    return b"(?:" + b"|".join(several) + b")"
