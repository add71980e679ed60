"""Patterns as data: what a server writes when somebody has logged in."""

import re
from dataclasses import dataclass
from typing import Final, Literal

# An address as text; whether it is one, canonical_address() decides.
ADDRESS: Final = r"(?P<address>[0-9A-Fa-f:.]{2,45}+)"
# A host's name, or nothing, as reverse lookups give it.
HOST: Final = r"[A-Za-z0-9._:-]{1,255}+"

# "connect" has the address, and "login" without an address waits for it: joined by process.
Role = Literal["login", "logout", "failure", "connect"]


@dataclass(frozen=True, slots=True)
class Pattern:
    """One kind of line, matched where the message begins.

    The groups address, user, service and session of *regex* give the fields. No text of *once* may
    stand in the line twice: where an outsider could have written one of two, none counts.
    """

    role: Role
    regex: re.Pattern[bytes]
    once: tuple[bytes, ...] = ()


def pattern(role: Role, regex: str, *once: str) -> Pattern:
    """Return the Pattern; *regex* in verbose syntax, so that a blank is [ ]."""
    compiled = re.compile(regex.encode("ascii"), re.VERBOSE | re.DOTALL)
    return Pattern(role, compiled, tuple(text.encode("ascii") for text in once))


@dataclass(frozen=True, slots=True)
class Sample:
    """A line of a log and the address and user that it proves, "" where it proves nothing."""

    line: str
    address: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """A server: the programs it logs as, its patterns, and samples of both kinds.

    *tag* is matched against the whole tag of a line. A server without one writes no tag: its
    patterns begin after the time.
    """

    name: str
    tag: re.Pattern[bytes] | None
    patterns: tuple[Pattern, ...]
    samples: tuple[Sample, ...]
    # Every line of its patterns holds one of these, tag included: a look at a line is cheap.
    words: tuple[bytes, ...]
    # Why other lines of its programs do not count, in the order in which to say it.
    reasons: tuple[tuple[re.Pattern[bytes], str], ...] = ()
    # Where its fields come from: source file or manual page.
    source: str = ""


def tags(regex: str) -> re.Pattern[bytes]:
    """Return the pattern of a server's tags; a path before the program's name is allowed."""
    return re.compile(rb"(?:/(?:[a-z0-9.-]{1,30}/){0,4})?(?:" + regex.encode("ascii") + rb")")


def reason(regex: str, why: str) -> tuple[re.Pattern[bytes], str]:
    """Return one of a server's reasons; *regex* as in pattern()."""
    return pattern("failure", regex).regex, why
