r"""The line between popbsmtp-wrap and what records its login.

Request, one line, fields separated by TAB, at most 4096 bytes:

    popbsmtp/1 TAB address TAB user TAB service [TAB age [TAB clock TAB boot-ns TAB wall-ns]] LF

*address* is canonical (address.py). *user* and *service* are UTF-8 text in which every byte
outside printable ASCII, and "%", is written %XX as in RFC 3986; empty means unknown. *age* is how
many seconds ago the login was, decimal, at the moment that the last three fields name: nanoseconds
of CLOCK_BOOTTIME, which goes on while the machine sleeps, and of the wall clock. *clock* is the
number of the sender's time namespace (time_namespaces(7)), empty where /proc does not say:
CLOCK_BOOTTIME can be compared within one namespace, the wall clock everywhere. A request lives no
longer than its socket, so no other boot can be meant. A request without these three fields counts
from when it is read, and is no login when its sender has hung up by then: nobody can tell how long
it has waited in the listen queue.

Answers, one line each; WAIT may come once, before the others:

    WAIT TAB seconds LF     how long the asker should wait at most, counted from its own start
    OK LF                   committed, safe in the spool, or on purpose not recorded
    NO TAB reason LF        not committed (yet); reason is one line of text

Runs once per login, so it imports nothing but time and posix, which are built into Python.
"""

import posix
from time import CLOCK_BOOTTIME, clock_gettime_ns, time_ns

PROTOCOL = b"popbsmtp/1"
LONGEST_LINE = 4096  # what one write to a pipe or socket moves at once (PIPE_BUF, pipe(7))
# A user name is cut to what the column takes; each character is at most 4 bytes of UTF-8.
_LONGEST_USER = 1020
_LONGEST_SERVICE = 80
_PLAIN = frozenset(range(0x21, 0x7F)) - {ord("%")}
_WRITTEN = _PLAIN | {ord("%")}
_HEX = frozenset(b"0123456789ABCDEFabcdef")
_REQUEST_FIELDS = 4
# Decimal digits: 30 years.
_LONGEST_AGE = 9
# Decimal digits: what 64 bits hold of nanoseconds, and of the number of an inode.
_LONGEST_CLOCK = 20


def _quote(value: bytes) -> bytes:
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in value)


def _unquote(value: bytes) -> bytes:
    first, *rest = value.split(b"%")
    if any(len(part) < 2 or not _HEX.issuperset(part[:2]) for part in rest):  # noqa: PLR2004
        raise ValueError(f"% without two hexadecimal digits: {value[:60]!r}")
    return first + b"".join(bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in rest)


def read_clocks() -> tuple[bytes, int, int]:
    """Return this moment as a request names it: clock, boot-ns and wall-ns."""
    try:
        # It reads time:[4026531834].
        namespace = posix.readlink(b"/proc/self/ns/time")[6:-1]
    except OSError:
        namespace = b""
    return namespace, clock_gettime_ns(CLOCK_BOOTTIME), time_ns()


def format_request(
    address: str,
    user: bytes,
    service: bytes,
    age_s: int = 0,
    moment: tuple[bytes, int, int] | None = None,
) -> bytes:
    """Return the request line for a login that was *age_s* old at *moment*.

    Over-long *user* and *service* are cut. *moment* is what read_clocks() returned.
    """
    fields = (PROTOCOL, address.encode("ascii"), _quote(user[:_LONGEST_USER]))
    when = b""
    if moment is not None:
        when = b"\t%d\t%s\t%d\t%d" % (age_s, *moment)
    elif age_s:
        when = b"\t%d" % age_s
    return b"\t".join((*fields, _quote(service[:_LONGEST_SERVICE]))) + when + b"\n"


def parse_request(line: bytes) -> tuple[str, bytes, bytes]:
    """Return (address, user, service) of a request line.

    The address is returned as it came: the caller has to parse it. Raise ValueError when the
    line is not this protocol.
    """
    if not line.endswith(b"\n") or len(line) > LONGEST_LINE:
        raise ValueError(f"no complete line in {len(line)} bytes")
    fields = line[:-1].split(b"\t")
    sound = all(_WRITTEN.issuperset(field) for field in fields)
    if len(fields) != _REQUEST_FIELDS or fields[0] != PROTOCOL or not sound:
        raise ValueError(f"not a {PROTOCOL.decode()} request: {line[:60]!r}")
    return fields[1].decode("ascii"), _unquote(fields[2]), _unquote(fields[3])


def parse_timed_request(
    line: bytes,
) -> tuple[str, bytes, bytes, int, tuple[bytes, int, int] | None]:
    """Return (address, user, service, age in seconds, moment of that age) of a request line.

    The moment is that of read_clocks() of the sender, None where the line names none. Raise
    ValueError as parse_request() does.
    """
    fields = line.split(b"\t", _REQUEST_FIELDS)
    if len(fields) <= _REQUEST_FIELDS or not line.endswith(b"\n"):
        return (*parse_request(line), 0, None)
    request = parse_request(b"\t".join(fields[:_REQUEST_FIELDS]) + b"\n")
    age, *clocks = fields[_REQUEST_FIELDS][:-1].split(b"\t")
    # isdigit() of bytes is ASCII alone.
    if not age.isdigit() or len(age) > _LONGEST_AGE:
        raise ValueError(f"no age in seconds: {age[:60]!r}")
    if not clocks:
        return (*request, int(age), None)
    clock, *times = clocks
    sound = all(one.isdigit() and len(one) <= _LONGEST_CLOCK for one in (clock or b"0", *times))
    if len(times) != 2 or not sound:  # noqa: PLR2004 - boot-ns and wall-ns
        raise ValueError(f"no moment: {fields[_REQUEST_FIELDS][:60]!r}")
    boot_ns, wall_ns = map(int, times)
    return (*request, int(age), (clock, boot_ns, wall_ns))


def format_answer(word: str, text: str = "") -> bytes:
    """Return an answer line; *text* loses its line ends and is cut to fit."""
    if not text:
        return word.encode("ascii") + b"\n"
    flat = " ".join(text.split())
    return f"{word}\t{flat}".encode("ascii", "backslashreplace")[: LONGEST_LINE - 1] + b"\n"


def parse_answer(line: bytes) -> tuple[str, str]:
    """Return (word, text) of an answer line without its line end."""
    word, _, text = line.decode("ascii", "backslashreplace").partition("\t")
    return word, text
