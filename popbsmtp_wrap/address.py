"""The one spelling of a client address: what Postfix asks for.

Runs once per login, so it imports _socket alone.
"""

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

# Longest text of an IPv6 address (INET6_ADDRSTRLEN - 1, RFC 4291 section 2.2 form 3).
_LONGEST = 45
_MAPPED = bytes(10) + b"\xff\xff"  # ::ffff:0:0/96, RFC 4291 section 2.5.5.2


def canonical_address(text: str) -> str:
    """Return *text* as Postfix spells a client address.

    IPv4 is a dotted quad; IPv6 is compressed lower case as inet_ntop(3) writes it;
    ::ffff:a.b.c.d becomes a.b.c.d. Raise ValueError for everything that is not one complete
    address: prefixes, names, zones (fe80::1%eth0), octal or non-ASCII digits, blanks.
    """
    if len(text) <= _LONGEST:
        try:
            return inet_ntop(AF_INET, inet_pton(AF_INET, text))
        except (OSError, ValueError):
            pass
        try:
            packed = inet_pton(AF_INET6, text)
        except (OSError, ValueError):
            pass
        else:
            if packed.startswith(_MAPPED):
                return inet_ntop(AF_INET, packed[12:])
            return inet_ntop(AF_INET6, packed)
    raise ValueError(f"{printable(text)} is not an IPv4 or IPv6 address")


# Kind, length of the address in bytes, its first bits, and how many those are (RFC 6890).
_NEVER_COUNTS = (
    ("loopback", 4, 0x7F, 8),  # 127.0.0.0/8
    ("unspecified", 4, 0, 32),
    ("link-local", 4, 0xA9FE, 16),  # 169.254.0.0/16
    ("multicast", 4, 0xE, 4),  # 224.0.0.0/4
    ("loopback", 16, 1, 128),
    ("unspecified", 16, 0, 128),
    ("link-local", 16, 0xFE80 >> 6, 10),  # fe80::/10
    ("multicast", 16, 0xFF, 8),  # ff00::/8
)


def never_counts(address: str) -> str | None:
    """Return why canonical *address* is never recorded, or None if it may be.

    Loopback, unspecified, link-local and multicast: no login from there says who may relay from
    elsewhere.
    """
    packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    for kind, length, first_bits, count in _NEVER_COUNTS:
        if len(packed) == length and int.from_bytes(packed) >> (8 * length - count) == first_bits:
            return kind
    return None


def printable(text: str) -> str:
    """Return *text* quoted, in ASCII and cut to 60 characters: safe in one line of a log."""
    cut = text[:60]
    return ascii(cut) + ("..." if len(text) > len(cut) else "")
