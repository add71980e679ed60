"""A site's own pattern for log lines: [[watch.pattern]] of popbsmtp.toml."""

import re
from dataclasses import dataclass
from re import _constants as sre  # type: ignore[attr-defined]  # typeshed leaves them out
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final, Literal, NamedTuple

from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.errors import BadValueError
from popbsmtp_wrap.logs.header import read_header, read_stamp

_KEYS: Final = {"name", "login", "logout", "sample"}
_GROUPS: Final = {"address", "user", "service"}
_LONGEST_LINE: Final = 4096
# Ways in which one line can be tried: some milliseconds.
_MOST_WAYS: Final = 1 << 20

_REPEATS: Final = {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}
_PLAIN: Final = {sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN, sre.AT, sre.CATEGORY}


class Found(NamedTuple):
    """What an own pattern took from a line; the address is canonical."""

    kind: Literal["login", "logout"]
    address: str
    user: str
    service: str
    stamp: str


@dataclass(frozen=True, slots=True)
class SitePattern:
    """Regular expressions with the groups address, and user and service where they have them.

    They are matched at the program's name, behind time and host.
    """

    name: str
    login: re.Pattern[bytes]
    logout: re.Pattern[bytes] | None
    sample: str

    def read(self, line: bytes) -> Found | None:
        """Return what *line* says, None for nothing."""
        header = read_header(line)
        stamp, start = (header.stamp, header.start) if header else read_stamp(line)
        kind: Literal["login", "logout"] = "login"
        found = self.login.match(line, start)
        if not found and self.logout:
            kind, found = "logout", self.logout.match(line, start)
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
        user, service = fields.get("user", ""), fields.get("service", "")
        return Found(kind, address, user, service, stamp.decode("ascii"))

    @property
    def words(self) -> tuple[bytes, ...]:
        """Texts of which every line of this pattern holds one; b"" when none is known."""
        return tuple(_longest_text(regex) for regex in (self.login, self.logout) if regex)


def site_patterns(value: Any) -> tuple[SitePattern, ...]:
    """Return the patterns that the tables [[watch.pattern]] define. Raise BadValueError."""
    if not isinstance(value, list):
        raise BadValueError("tables [[watch.pattern]] with name, login and sample")
    patterns = tuple(_site_pattern(table) for table in value)
    names = [pattern.name for pattern in patterns]
    for name in names:
        if names.count(name) > 1:
            raise BadValueError("a name of its own for each pattern", name)
    return patterns


def _site_pattern(table: Any) -> SitePattern:
    if not isinstance(table, dict) or not _KEYS - {"logout"} <= set(table) <= _KEYS:
        raise BadValueError(
            "tables [[watch.pattern]] with name, login and sample, and optionally logout", table
        )
    for key, text in table.items():
        if not isinstance(text, str) or not text:
            raise BadValueError(f"text in quotes for {key}", text)
    name = table["name"]
    if not re.fullmatch(r"[a-z0-9-]{1,20}", name):
        raise BadValueError("a name of small letters, digits and -", name)
    logout = _regex(name, table["logout"]) if "logout" in table else None
    pattern = SitePattern(name, _regex(name, table["login"]), logout, table["sample"])
    line = pattern.sample.encode()
    found = pattern.read(line) if len(line) <= _LONGEST_LINE else None
    if not found or found.kind != "login":
        raise BadValueError(
            f"a sample that the login pattern of {name} recognises from the program's name on,"
            " with one complete address",
            pattern.sample,
        )
    return pattern


def _regex(name: str, text: str) -> re.Pattern[bytes]:
    try:
        regex = re.compile(text.encode())
        parsed = _parser.parse(text.encode())
    except (re.error, RecursionError, OverflowError) as error:
        raise BadValueError(f"a regular expression for {name} ({error})", text) from None
    groups = set(regex.groupindex)
    if "address" not in groups or groups - _GROUPS:
        raise BadValueError(
            f"the group (?P<address>...) for {name},"
            " and optionally (?P<user>...) and (?P<service>...)",
            text,
        )
    if _ways(parsed, repeated=False) > _MOST_WAYS:
        raise BadValueError(
            f"a regular expression for {name} that cannot run away: one * or + and no other"
            " repetition in it or beside it, except possessive ones of one character such as"
            " [^ ]++; (?>(?:...)*) is one of a group",
            text,
        )
    return regex


def _ways(parsed: Any, *, repeated: bool) -> int:
    """Return in how many ways at most *parsed* can match at one place of a line.

    A repetition or a choice inside a repetition counts as endless: (a|aa)*, (a+)+.
    """
    ways = 1
    for operator, what in parsed:
        if operator in _REPEATS:
            least, most, body = what
            # Of a group, it matches too much before Python 3.11.5 (python/cpython#106052).
            misled = operator is sre.POSSESSIVE_REPEAT and not _is_one_character(body)
            if repeated or misled:
                return _MOST_WAYS + 1
            ways *= _ways(body, repeated=most > 1)
            if operator is not sre.POSSESSIVE_REPEAT:
                ways *= min(int(most), _LONGEST_LINE) - min(int(least), _LONGEST_LINE) + 1
        elif operator is sre.BRANCH:
            if repeated:
                return _MOST_WAYS + 1
            ways *= sum(_ways(branch, repeated=False) for branch in what[1])
        elif operator not in _PLAIN:
            ways *= _ways(_body(operator, what), repeated=repeated)
        if ways > _MOST_WAYS:
            break
    return ways


def _is_one_character(parsed: Any) -> bool:
    return len(parsed) == 1 and parsed[0][0] in _PLAIN


def _body(operator: Any, what: Any) -> Any:
    if operator is sre.SUBPATTERN:
        return what[-1]
    if operator is sre.ATOMIC_GROUP:
        return what
    if operator in {sre.ASSERT, sre.ASSERT_NOT}:
        return what[1]
    # Back references and conditions: nobody needs them here.
    return [(sre.MAX_REPEAT, (0, _MOST_WAYS, [(sre.MAX_REPEAT, (0, _MOST_WAYS, []))]))]


def _longest_text(regex: re.Pattern[bytes]) -> bytes:
    """Return the longest text that every match holds as it stands."""
    texts = [bytearray()]
    if not regex.flags & re.IGNORECASE:
        for operator, what in _parser.parse(regex.pattern):
            if operator is sre.LITERAL:
                texts[-1].append(what)
            else:
                texts.append(bytearray())
    return bytes(max(texts, key=len))
