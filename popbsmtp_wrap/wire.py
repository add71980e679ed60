r"""The line between popbsmtp-wrap and what records its login; bytes in, bytes out, no I/O.

Request, one line, fields separated by TAB, at most 4096 bytes:

    popbsmtp/1 TAB address TAB user TAB service LF

*address* is canonical (address.py). *user* and *service* are UTF-8 text in which every byte
outside printable ASCII, and "%", is written %XX as in RFC 3986; empty means unknown.
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


def _quote(value: bytes) -> bytes:
    return b"".join(b"%c" % byte if byte in _PLAIN else b"%%%02X" % byte for byte in value)


def _unquote(value: bytes) -> bytes:
    first, *rest = value.split(b"%")
    if any(len(part) < 2 or not _HEX.issuperset(part[:2]) for part in rest):  # noqa: PLR2004
        raise ValueError(f"% without two hexadecimal digits: {value[:60]!r}")
    return first + b"".join(bytes.fromhex(part[:2].decode("ascii")) + part[2:] for part in rest)


def format_request(address: str, user: bytes, service: bytes) -> bytes:
    """Return the request line for a login; over-long *user* and *service* are cut."""
    fields = (PROTOCOL, address.encode("ascii"), _quote(user[:_LONGEST_USER]))
    return b"\t".join((*fields, _quote(service[:_LONGEST_SERVICE]))) + b"\n"


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
