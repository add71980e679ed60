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

from collections.abc import Collection, Iterator
from typing import Final

from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.wire import LONGEST_LINE

PROTOCOL: Final = b"popbsmtp-control/1"
ALL: Final = "*"
WORDS: Final = ("status", "renew", "revoke", "revoked")
# 45 characters and a TAB each.
_ADDRESSES_PER_LINE: Final = 80


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


def request(word: str, arguments: Collection[str]) -> bytes:
    """Return a request line."""
    return b"\t".join([PROTOCOL, *(text.encode("ascii") for text in (word, *arguments))]) + b"\n"


def portions(addresses: Collection[str]) -> Iterator[list[str]]:
    """Yield *addresses*, sorted, as many at once as fit into a request."""
    listed = sorted(addresses)
    for start in range(0, len(listed), _ADDRESSES_PER_LINE):
        yield listed[start : start + _ADDRESSES_PER_LINE]
