"""A site's own pattern for log lines: [[watch.pattern]] of popbsmtp.toml."""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from popbsmtp_wrap.address import canonical_address


class Found(NamedTuple):
    """What an own pattern took from a line; the address is canonical."""

    kind: Literal["login", "logout"]
    address: str
    user: str
    service: str


@dataclass(frozen=True, slots=True)
class OwnPattern:
    """Regular expressions with the groups address, and user and service where they have them.

    They are matched at the program's name, behind time and host.
    """

    name: str
    login: re.Pattern[bytes]
    logout: re.Pattern[bytes] | None
    sample: str

    def read(self, text: bytes) -> Found | None:
        """Return what *text* says: a line from its program's name on."""
        kind: Literal["login", "logout"] = "login"
        found = self.login.match(text)
        if not found and self.logout:
            kind, found = "logout", self.logout.match(text)
        if not found:
            return None
        fields = {
            name: (value or b"").decode("utf-8", "backslashreplace")
            for name, value in found.groupdict().items()
        }
        try:
            address = canonical_address(fields["address"])
        except ValueError:
            return None
        return Found(kind, address, fields.get("user", ""), fields.get("service", ""))
