"""A login: what a source proves and the store keeps."""

from dataclasses import dataclass
from math import ceil

from popbsmtp_wrap.address import canonical_address

# What the user and service columns take, in characters.
LONGEST_USER = 255
LONGEST_SERVICE = 20


@dataclass(frozen=True, slots=True)
class Login:
    """A successful login from *address*, *age_s* seconds ago."""

    address: str
    user: str | None = None
    service: str | None = None
    age_s: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError unless the address is canonical: nothing else may reach the table."""
        if self.address != canonical_address(self.address):
            raise ValueError(f"{self.address!r} is not canonical")
        if self.age_s < 0:
            raise ValueError(f"a login cannot be {-self.age_s} seconds in the future")


def make_login(
    address: str, user: str | bytes | None, service: str | bytes | None, age_s: float = 0
) -> Login:
    """Return the Login for text from outside.

    Names are escaped and cut, never refused: a strange user name does not lose the login.
    The age is rounded up, so that nobody may relay longer. Raise ValueError for an address that
    is not one.
    """
    return Login(
        canonical_address(address),
        _name(user, LONGEST_USER),
        _name(service, LONGEST_SERVICE),
        max(0, ceil(age_s)),
    )


def _name(value: str | bytes | None, longest: int) -> str | None:
    """Return *value* as printable text of at most *longest* characters, None for nothing."""
    text = (_bytes(value) if isinstance(value, str) else value or b"").decode(
        "utf-8", "backslashreplace"
    )
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text[:longest] or None


def _bytes(value: str) -> bytes:
    try:
        # The bytes that Python's argv and environment hide in surrogates (PEP 383).
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace")
