r"""What an administrator asks a running recorder, on the socket of popbsmtp-wrap.

Request, one line, fields separated by TAB, at most 4096 bytes; root or the recorder's user only,
but renew, for all who may record logins:

    popbsmtp-control/1 TAB status LF
    popbsmtp-control/1 TAB renew TAB address... LF
    popbsmtp-control/1 TAB revoke TAB (address... | *) LF
    popbsmtp-control/1 TAB revoked TAB (address... | *) LF

`revoke` comes before the rows are deleted: the logins so far are in the table when it is answered,
and none of them comes back from the spool. `revoked` comes after it: the next login is written.
`renew` says that sessions of these addresses are open now: those that have a row are as good as
logged in again. The text of its answer is how many they are.
Answers are those of wire.py; the text of status is JSON in ASCII.
"""

import socket
import struct
import time
from collections.abc import Collection, Iterator
from typing import Final

from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.errors import RefusedError, ServiceUnavailableError
from popbsmtp_wrap.wire import LONGEST_LINE, parse_answer

PROTOCOL: Final = b"popbsmtp-control/1"
ALL: Final = "*"
WORDS: Final = ("status", "renew", "revoke", "revoked")
_ANSWER_S: Final = 10
_TIMEVAL: Final = struct.Struct("ll")  # socket(7)
_LONGEST_ANSWER: Final = 1 << 20
# 45 characters and a TAB each.
_ADDRESSES_PER_LINE: Final = 80


class NobodyListensError(ServiceUnavailableError):
    """There is no socket, or no process that holds it: nobody can have asked there either."""


def is_control(line: bytes) -> bool:
    """Tell whether *line* is meant for this module."""
    return line.startswith(PROTOCOL + b"\t")


def parse(line: bytes) -> tuple[str, list[str]]:
    """Return (word, arguments) of a request line. Raise ValueError."""
    if not line.endswith(b"\n") or len(line) > LONGEST_LINE:
        raise ValueError(f"no complete line in {len(line)} bytes")
    _, word, *arguments = line[:-1].decode("ascii", "backslashreplace").split("\t")
    if word not in WORDS or bool(arguments) == (word == "status"):
        raise ValueError(f"not a control request: {line[:60]!r}")
    if arguments != [ALL] or word == "renew":
        arguments = [canonical_address(argument) for argument in arguments]
    return word, arguments


def ask_status(path: str) -> str:
    """Return the JSON text of the recorder at *path*.

    Raise ServiceUnavailableError when none answers, RefusedError when it will not.
    """
    return _ask(path, "status", [])


def tell(
    path: str, word: str, addresses: Collection[str] | None, limit_s: float = _ANSWER_S
) -> None:
    """Send `revoke` or `revoked` for *addresses*, None for all, within *limit_s* seconds.

    Raise as ask_status(): NobodyListensError when there is no recorder at all.
    """
    deadline = time.monotonic() + limit_s
    for arguments in [[ALL]] if addresses is None else portions(addresses):
        _ask(path, word, arguments, max(0.01, deadline - time.monotonic()))


def request(word: str, arguments: Collection[str]) -> bytes:
    """Return a request line."""
    return b"\t".join([PROTOCOL, *(text.encode("ascii") for text in (word, *arguments))]) + b"\n"


def portions(addresses: Collection[str]) -> Iterator[list[str]]:
    """Yield *addresses*, sorted, as many at once as fit into a request."""
    listed = sorted(addresses)
    for start in range(0, len(listed), _ADDRESSES_PER_LINE):
        yield listed[start : start + _ADDRESSES_PER_LINE]


def _ask(path: str, word: str, arguments: list[str], limit_s: float = _ANSWER_S) -> str:
    line, received = request(word, arguments), b""
    try:
        with socket.socket(socket.AF_UNIX) as peer:
            # Not settimeout(): with that, a full queue is an error at once instead of a wait.
            limit = _TIMEVAL.pack(int(limit_s), int(limit_s % 1 * 1e6))
            for name in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                peer.setsockopt(socket.SOL_SOCKET, name, limit)
            peer.connect(path)
            peer.sendall(line)
            while not received.endswith(b"\n") and len(received) < _LONGEST_ANSWER:
                data = peer.recv(65536)
                if not data:
                    break
                received += data
    except OSError as error:
        nobody = isinstance(error, FileNotFoundError | ConnectionRefusedError)
        kind = NobodyListensError if nobody else ServiceUnavailableError
        raise kind(
            f"no recorder answers at {path}: {error.strerror or error};"
            " run: systemctl start popbsmtp, or popbsmtp serve"
        ) from None
    answer, text = parse_answer(received.rstrip(b"\n"))
    if answer == "NO":
        raise RefusedError(f"the recorder at {path} refuses: {text}")
    if answer != "OK":
        raise ServiceUnavailableError(f"the recorder at {path} ended without an answer")
    return text
