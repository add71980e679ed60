r"""What `doveadm -f json who -1` prints: bytes in, addresses out, no I/O.

One JSON array, an object of texts for each session (src/doveadm/doveadm-who.c, who_print_line):

    [{"username":"alice","service":"imap","pid":"811","ip":"198.51.100.7"},...]         2.3
    [{...,"ip":"198.51.100.7","dest_ip":"","user_x":"..."},...]                         2.4

*ip* is empty where Dovecot knows none. 2.4 adds fields of the passdb at the end (user_...).

A user name is an outsider's text. `-f tab`, `-f flow` and the table print it as it is, so that a
tab or a blank in it moves the columns: only JSON is quoted. Without -1 the JSON of 2.3 closes its
array after the first object. JSON came with 2.2.25.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from popbsmtp_wrap.address import canonical_address, printable

ARGUMENTS: Final = ("-f", "json", "who", "-1")
# The others (lmtp, submission, sieve, doveadm) read no mail.
_SERVICES: Final = frozenset({"imap", "pop3"})
_BLANK: Final = " \t\r\n"


def open_addresses(printed: bytes) -> Iterator[str]:
    """Yield the canonical client address of each IMAP and POP3 session, in the order printed.

    Raise ValueError at the first thing that doveadm does not print: what came before is not to be
    believed either.
    """
    text = printed.decode("utf-8", "replace").strip(_BLANK)
    # No more than one object is taken apart at once, so that others get their turn between two.
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    if not text.startswith("["):
        raise _unknown(text)
    end, at = len(text) - 1, _skip(text, 1)
    if at == end and text[at] == "]":
        return
    while True:
        try:
            session, at = decoder.raw_decode(text, at)
        except RecursionError:
            raise _unknown(text[at : at + 100]) from None
        if address := _address(session):
            yield address
        at = _skip(text, at)
        if at == end and text[at] == "]":
            return
        if text[at : at + 1] != ",":
            raise _unknown(text[at : at + 100])
        at = _skip(text, at + 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field comes twice")
    return found


def _address(session: Any) -> str | None:
    """Return the address of a session that counts. Raise ValueError for what is no session.

    Every field is looked at, as a field too many or too few would show in them.
    """
    if not isinstance(session, dict):
        raise _unknown(str(session))
    service, pid, address, own = (
        session.get(name, default)
        for name, default in (("service", None), ("pid", None), ("ip", None), ("dest_ip", ""))
    )
    texts = all(isinstance(text, str) for text in (session.get("username"), service, address, own))
    if not texts or not isinstance(pid, str) or not (pid.isascii() and pid.isdigit()):
        raise _unknown(str(session))
    client, _ = (canonical_address(text) if text else None for text in (address, own))
    return client if service in _SERVICES else None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _unknown(text: str) -> ValueError:
    return ValueError(f"not what doveadm who prints: {printable(text)}")
