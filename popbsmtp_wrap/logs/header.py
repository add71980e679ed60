"""Who wrote a line, and when: the part before the message.

Strict from the first byte on, because all that follows may be an outsider's text:

    Jun 14 10:00:00 mx dovecot[77]: message                     RFC 3164 section 4.1
    <22>Jun 14 10:00:00 mx dovecot: message                     with PRI, fraction, facility
    2026-06-14T10:00:00.123456+02:00 mx dovecot: message        rsyslog, journalctl -o short-iso
    <22>1 2026-06-14T10:00:00Z mx dovecot 77 - - message        RFC 5424 section 6
    <22>1 2026-06-14T10:00:00Z mx dovecot - - -  message        rsyslog's: the message has its blank
    Sun 2026-06-14 10:00:00 CEST mx dovecot[77]: message        journalctl -o short-full
    Jun 14 10:00:00 imap-login: Info: message                   a log of Dovecot's own, 2.x
    dovecot: Jun 14 10:00:00 Info: imap-login: message          and 1.x
    @4000000065a1b2c3075bcd15 imap-login: message               multilog(8)
    imapd[16091]: message                                       without a time
"""

import re
from typing import Final, NamedTuple

_HMS = rb"[0-9]{2}:[0-9]{2}:[0-9]{2}"
_ZONE = rb"(?:Z|[ ]?[+-][0-9]{2}:?[0-9]{2}|[ ](?:UTC|GMT))?"
STAMP: Final = (
    rb"(?:[A-Z][a-z]{2}[ ]{1,2}[0-9]{1,2}[ ](?:[0-9]{4}[ ])?" + _HMS + rb"(?:\.[0-9]{1,9})?"
    # systemd.time(7): a weekday, and a zone by its name or by its hours.
    rb"|[A-Z][a-z]{2}[ ][0-9]{4}-[0-9]{2}-[0-9]{2}[ ]"
    + _HMS
    + rb"(?:\.[0-9]{1,9})?[ ](?:[A-Z]{2,5}|[+-][0-9]{2}(?:[0-9]{2})?)"
    # An underscore is svlogd's, in UTC.
    rb"|(?:[A-Z][a-z]{2}[ ])?[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}[T _]"
    + _HMS
    + rb"(?:[.,][0-9]{1,9})?"
    + _ZONE
    + rb"|[A-Z][a-z]{2},?[ ][A-Z][a-z]{2}[ ]{1,2}[0-9]{1,2}[ ]"
    + _HMS
    + rb"[ ][0-9]{4}"
    rb"|@[0-9a-f]{24}"
    rb"|[0-9]{10}\.[0-9]{3,9})"
)
_TAG = rb"(?P<tag>/?[A-Za-z][A-Za-z0-9_./+-]{0,63})"
_PID = rb"(?:\[(?P<pid>[0-9]{1,10})\])?"
# What OpenWrt, FreeBSD's syslogd -v and Solaris write of facility and level.
LEVEL: Final = rb"(?:<?[a-z0-9]{2,9}\.[a-z]{3,7}>?[ ])?"
_SOLARIS = rb"(?:\[ID[ ][0-9]{1,10}[ ][a-z0-9.]{3,20}\][ ])?"

_PLAIN = re.compile(
    rb"(?:<[0-9]{1,3}>)?(?:(?P<stamp>" + STAMP + rb")[ ]{1,2}"
    # A host never ends like a tag does, or a line without a host would lose its program.
    rb"(?:" + LEVEL + rb"(?P<host>[^ ]{1,255}+)(?<![]:])[ ])?" + LEVEL + rb")?"
    # courier's "[pop3d]:" (pop-before-smtp) as well.
    rb"(?:" + _TAG + _PID + rb"|\[(?P<boxed>[a-z][a-z0-9-]{1,30})\]):[ ]" + _SOLARIS
)
_RFC5424 = re.compile(
    rb"<[0-9]{1,3}>1[ ](?:-|(?P<stamp>"
    + STAMP
    + rb"))[ ](?P<host>[^ ]{1,255}+)[ ]"
    + _TAG
    + rb"[ ]"
    rb"(?:-|(?P<pid>[0-9]{1,10})|[^ ]{1,128})[ ][^ ]{1,32}[ ]"
    # Structured data: values in quotes, where ] and \ are written with a backslash.
    rb'(?:-|(?:\[(?:[^]"\\]|"(?:[^"\\]|\\.)*")*\])+)[ ]{1,2}(?:\xef\xbb\xbf)?'
)
_STAMPED = re.compile(
    rb"(?:<[0-9]{1,3}>)?(?P<stamp>" + STAMP + rb")(?:[ ]{1,2}|,)"
)  # a comma in Exchange's CSV
# Dovecot 1.x and 0.99 write the time behind their own name.
_INNER = re.compile(rb"(?P<stamp>" + STAMP + rb")[ ]")


class Header(NamedTuple):
    """What stands before the message, and where the message begins."""

    stamp: bytes
    host: bytes
    tag: bytes
    pid: bytes
    end: int
    start: int  # of the tag; own patterns begin here


def read_header(line: bytes) -> Header | None:
    """Return the header of *line*, None when it has none that names a program."""
    if found := _PLAIN.match(line):
        stamp, host, tag, pid, boxed = found.groups(b"")
        end = found.end()
        if not stamp and (inner := _INNER.match(line, end)):
            stamp, end = inner[1], inner.end()
        return Header(stamp, host, tag or boxed, pid, end, found.start("tag" if tag else "boxed"))
    if found := _RFC5424.match(line):
        stamp, host, tag, pid = found.groups(b"")
        return Header(stamp, host, tag, pid, found.end(), found.start("tag"))
    return None


def read_stamp(line: bytes) -> tuple[bytes, int]:
    """Return the time at the start of *line*, and where the rest begins; b"" and 0 without one."""
    found = _STAMPED.match(line)
    return (found[1], found.end()) if found else (b"", 0)
