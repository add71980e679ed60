"""Patterns as data: what a server writes when somebody has logged in."""

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

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
    stand in the line twice: where an outsider could have written one of two, none counts. *head* is
    how *regex* begins; other lines are passed over without a further look.
    """

    role: Role
    head: bytes
    regex: re.Pattern[bytes]
    once: tuple[bytes, ...] = ()


def pattern(role: Role, head: str, rest: str, *once: str) -> Pattern:
    """Return the Pattern of *head* and *rest*, in verbose syntax, so that a blank is [ ].

    Groups are made to give nothing back by (?>...), not by +: CPython's possessive repetition of a
    group forgets where it began (python/cpython#106052, mended in 3.11.5).
    """
    regex = verbose(f"(?:{head}){rest}")
    return Pattern(role, head.encode("ascii"), regex, tuple(text.encode("ascii") for text in once))


def verbose(regex: str) -> re.Pattern[bytes]:
    """Return *regex*, in verbose syntax, compiled; a dot stands for every byte."""
    return re.compile(regex.encode("ascii"), re.VERBOSE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Sample:
    """A line of a log and the address and user that it proves, "" where it proves nothing."""

    line: str
    address: str = ""
    user: str = ""


# Before a program's name in a tag: its path, and what inetd's wrapper was called by.
PATH: Final = rb"(?:/(?:[a-z0-9.-]{1,30}/){0,4})?(?:in\.)?"


class Tags(NamedTuple):
    """The tags of a server: a regular expression for each program, and one for the whole tag."""

    programs: tuple[bytes, ...]
    regex: re.Pattern[bytes]


def tags(*programs: str) -> Tags:
    """Return the Tags; each of *programs* begins with a letter, or looking for it is slow."""
    regexes = tuple(program.encode("ascii") for program in programs)
    return Tags(regexes, re.compile(PATH + b"(?:" + b"|".join(regexes) + b")"))


@dataclass(frozen=True, slots=True)
class Server:
    """A server: the programs it logs as, its patterns, and samples of both kinds.

    *tag* is matched against the whole tag of a line. A server without one writes no tag: its
    patterns begin after the time.
    """

    name: str
    tag: Tags | None
    patterns: tuple[Pattern, ...]
    samples: tuple[Sample, ...]
    # Why other lines of its programs do not count, in the order in which to say it.
    reasons: tuple[tuple[re.Pattern[bytes], str], ...] = ()
    # Where its fields come from: source file or manual page.
    source: str = ""
    # A message of this length or more may be a piece of one: a client may have written what stands
    # at the beginning of the next piece. 0 where lines are not cut.
    longest_piece: int = 0


def reason(regex: str, why: str) -> tuple[re.Pattern[bytes], str]:
    """Return one of a server's reasons; *regex* as in pattern()."""
    return verbose(regex), why
