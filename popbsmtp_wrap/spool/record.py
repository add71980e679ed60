r"""A login in the spool; bytes in, bytes out, no I/O.

One line, fields separated by TAB, at most 4096 bytes:

    spool/1 TAB crc TAB boot TAB boot-ns TAB wall-ns TAB age TAB request LF

*crc* is the CRC-32 (zlib's) of all behind its TAB, the LF included, as eight lower-case
hexadecimal digits. *boot*, *boot-ns* and *wall-ns* are the stamp (stamp.py), *age* the seconds
that the login was old at that moment; numbers are decimal. *request* is the request line of
wire.py: popbsmtp/1 TAB address TAB user TAB service.
"""

import re
from zlib import crc32

from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.wire import LONGEST_LINE, format_request, parse_request

PROTOCOL = b"spool/1"
LONGEST_RECORD = LONGEST_LINE
_BOOT_ID = re.compile(rb"[0-9a-f-]{0,36}")
# Until the year 2286: what 64 bits hold of nanoseconds.
_NUMBER = re.compile(rb"[0-9]{1,19}")
_FIELDS = 7


def format_record(login: Login, stamp: Stamp) -> bytes:
    """Return the line of *login*, which was *login.age_s* old at *stamp*."""
    user, service = _bytes(login.user), _bytes(login.service)
    fields = f"{stamp.boot_id}\t{stamp.boot_ns}\t{stamp.wall_ns}\t{login.age_s}\t".encode("ascii")
    content = fields + format_request(login.address, user, service)
    return b"%s\t%08x\t%s" % (PROTOCOL, crc32(content), content)


def parse_record(line: bytes) -> tuple[Login, Stamp]:
    """Return the login of a line and its stamp.

    Raise ValueError when the line is not what format_record() has made.
    """
    if len(line) > LONGEST_RECORD:
        raise ValueError(f"{len(line)} bytes are no record")
    fields = line.split(b"\t", 6)
    if len(fields) != _FIELDS or fields[0] != PROTOCOL:
        raise ValueError(f"not a {PROTOCOL.decode()} record: {line[:60]!r}")
    content = line[len(PROTOCOL) + len(fields[1]) + 2 :]
    if fields[1] != b"%08x" % crc32(content):
        raise ValueError(f"wrong CRC: {line[:60]!r}")
    _, _, boot_id, *numbers, request = fields
    if not _BOOT_ID.fullmatch(boot_id) or not all(_NUMBER.fullmatch(one) for one in numbers):
        raise ValueError(f"no stamp: {line[:60]!r}")
    boot_ns, wall_ns, age_s = map(int, numbers)
    return (
        make_login(*parse_request(request), age_s),
        Stamp(boot_id.decode("ascii"), boot_ns, wall_ns),
    )


def _bytes(name: str | None) -> bytes:
    # Never an error that loses a login: make_login() leaves no surrogates, others may.
    return (name or "").encode("utf-8", "backslashreplace")
