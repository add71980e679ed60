r"""The line between popbsmtp-wrap and what records its login; bytes in, bytes out, no I/O.

Request, one line, fields separated by TAB, at most 4096 bytes:

    popbsmtp/1 TAB address TAB user TAB service [TAB age] LF

*address* is canonical (address.py). *user* and *service* are UTF-8 text in which every byte
outside printable ASCII, and "%", is written %XX as in RFC 3986; empty means unknown. *age* is how
many seconds ago the login was, decimal; left out for one that happens now. popbsmtp-wrap never
sends it, a watcher of logs does.
Answers, one line each; WAIT may come once, before the others:

    WAIT TAB seconds LF     how long the asker should wait at most, counted from its own start
    OK LF                   committed, safe in the spool, or on purpose not recorded
    NO TAB reason LF        not committed (yet); reason is one line of text

Runs once per login, so it imports nothing.
"""

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


def _quote(value: bytes) -> bytes:
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in value)


def _unquote(value: bytes) -> bytes:
    first, *rest = value.split(b"%")
    if any(len(part) < 2 or not _HEX.issuperset(part[:2]) for part in rest):  # noqa: PLR2004
        raise ValueError(f"% without two hexadecimal digits: {value[:60]!r}")
    return first + b"".join(bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in rest)


def format_request(address: str, user: bytes, service: bytes, age_s: int = 0) -> bytes:
    """Return the request line for a login; over-long *user* and *service* are cut."""
    fields = (PROTOCOL, address.encode("ascii"), _quote(user[:_LONGEST_USER]))
    age = b"\t%d" % age_s if age_s else b""
    return b"\t".join((*fields, _quote(service[:_LONGEST_SERVICE]))) + age + b"\n"


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


def parse_aged_request(line: bytes) -> tuple[str, bytes, bytes, int]:
    """Return (address, user, service, age in seconds) of a request line with or without an age.

    Raise ValueError as parse_request() does.
    """
    head, _, age = line.rpartition(b"\t")
    if head.count(b"\t") != _REQUEST_FIELDS - 1:
        return (*parse_request(line), 0)
    # isdigit() of bytes is ASCII alone.
    if not age.endswith(b"\n") or not age[:-1].isdigit() or len(age) > _LONGEST_AGE + 1:
        raise ValueError(f"no age in seconds: {age[:60]!r}")
    return (*parse_request(head + b"\n"), int(age))


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
