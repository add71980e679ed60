"""Lines in, logins out.

A line is evidence that an outsider has partly written: all of it that is not known to be the
server's own is distrusted. What is ambiguous does not count.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Final, get_args

from popbsmtp_wrap.address import canonical_address, never_counts, printable
from popbsmtp_wrap.logs.correlation import Memory
from popbsmtp_wrap.logs.cut_lines import CutLines
from popbsmtp_wrap.logs.event import Event, Kind
from popbsmtp_wrap.logs.header import Header, read_header, read_stamp
from popbsmtp_wrap.logs.pattern import Pattern, Server
from popbsmtp_wrap.logs.prefilter import prefilter
from popbsmtp_wrap.logs.servers import SERVERS
from popbsmtp_wrap.logs.site_pattern import SitePattern
from popbsmtp_wrap.logs.timestamps import apart_s

# No server writes more of a login; syslog cuts at 1024 (RFC 3164) to 8192 bytes (rsyslog).
LONGEST_LINE: Final = 4096
# popa3d gives a client 5 minutes to log in (AUTH_TIMEOUT in params.h), solid-pop3d 10.
_TWO_LINES_S: Final = 600
# Distinct tags of a log; a log of more has tags from outside.
_MOST_TAGS: Final = 1000
# Clients and sessions come back; about 200 bytes each.
_MOST_ADDRESSES: Final = 4096
# Beside the session, or it may be a format of the site's own.
_LOCAL: Final = re.compile(rb"[ ]lip=[<\[]?([0-9A-Fa-f:.]{2,45}+)(?=.*[ ]session=<)")
_PRIVATE: Final = re.compile(
    r"127\.|10\.|192\.168\.|172\.(?:1[6-9]|2[0-9]|3[01])\.|::1$|f[cd]|fe80:"
)
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


def server_names() -> list[str]:
    """Return the names that Recogniser takes."""
    return sorted({server.name for server in SERVERS})


class _NoEventError(Exception):
    """Why a line that looks like an event does not count as one."""


class Recogniser:
    """Tells logins from other lines.

    Lines of one log go in their order: some servers need two for a login. Not safe for threads.
    """

    def __init__(
        self,
        servers: Collection[str] = (),
        own: Sequence[SitePattern] = (),
        kinds: Collection[Kind] = KINDS,
    ) -> None:
        """Take all servers when *servers* is empty; events() yields *kinds*.

        Raise ValueError for an unknown server.
        """
        known = {*server_names(), *(pattern.name for pattern in own)}
        if unknown := set(servers) - known:
            raise ValueError(
                f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        self._kinds = kinds
        self._has_logouts = "logout" in kinds
        self._chosen = [server for server in SERVERS if not servers or server.name in servers]
        self._own = tuple(pattern for pattern in own if not servers or pattern.name in servers)
        self._bare = [(s.name, p) for s in self._chosen if not s.tag for p in s.patterns]
        self._by_tag: dict[bytes, tuple[tuple[tuple[str, Pattern], ...], int]] = {}
        self._clients: Memory[tuple[str, str]] = Memory()
        self._sessions: Memory[str] = Memory()
        self._cut = CutLines()

    @cached_property
    def _gate(self) -> re.Pattern[bytes]:
        words = [word for pattern in self._own for word in pattern.words]
        return prefilter(self._chosen, words, self._kinds)

    def events(self, block: bytes) -> Iterator[tuple[int, Event]]:
        """Yield what the lines of *block* say that counts, each with its place among them, from 0.

        The last line may lack its end.
        """
        block = b"\n" + block
        kinds, recognise = self._kinds, self.recognise
        number = counted = 0
        for found in self._gate.finditer(block):
            event = recognise(found[1])
            if event and event.kind in kinds:
                start = found.start()
                number += block.count(b"\n", counted, start)
                counted = start
                yield number, event

    def read(self, lines: Sequence[bytes]) -> Iterator[Event]:
        """Yield what *lines*, without their ends, say that counts."""
        block = b"\n".join(lines)
        if block.count(b"\n") < len(lines):
            return (event for _, event in self.events(block))
        # Of the journal, a message with line ends in it: what stands behind one is no line.
        found = map(self.recognise, lines)
        return (event for event in found if event and event.kind in self._kinds)

    def recognise(self, line: bytes) -> Event | None:
        """Return what *line*, without its end, says; None if it says nothing that counts."""
        if len(line) > LONGEST_LINE:
            return None
        line = _bared(line)
        try:
            return self._event(line, read_header(line))
        except _NoEventError:
            return None

    def explain(self, line: bytes) -> str:
        """Return what *line* is, or why it does not count. Takes the place of recognise()."""
        found = self.judge(line)
        if isinstance(found, str):
            return found
        user = printable(found.user) if found.user else ""
        parts = (found.kind, found.server, found.address, user, found.service)
        return " ".join(part for part in parts if part)

    def judge(self, line: bytes) -> Event | str:
        """Return the event, or the reason why there is no event; use instead of recognise()."""
        if len(line) > LONGEST_LINE:
            return f"longer than {LONGEST_LINE} bytes"
        line = _bared(line)
        header = read_header(line)
        try:
            return self._event(line, header) or self._why(line, header)
        except _NoEventError as reason:
            return str(reason)

    def _event(self, line: bytes, header: Header | None) -> Event | None:
        if self._cut.is_piece_of_container(line):
            raise _NoEventError("a piece of a line that was cut")
        if header:
            end = header.end
            patterns, longest_piece = self._of_tag(header.tag)
            if longest_piece and len(line) - end >= longest_piece:
                self._cut.add(header)
                raise _NoEventError("a piece of a line that was cut")
            for server, pattern in patterns:
                if found := pattern.regex.match(line, end):
                    return self._read(server, pattern, found, header)
        stamp, start = read_stamp(line)
        for server, pattern in self._bare:
            if found := pattern.regex.match(line, start):
                bare = Header(stamp, b"", b"", b"", start, start)
                return self._read(server, pattern, found, bare)
        for own in self._own:
            if read := own.read(line):
                kind, address, user, service, time = read
                _client_only(address)
                return Event(kind, own.name, address, user, service, time)
        return None

    def _of_tag(self, tag: bytes) -> tuple[tuple[tuple[str, Pattern], ...], int]:
        """Return the patterns for lines of a program, each with its server, and its longest piece.

        The longest piece is 0 for a program that does not cut its lines.
        """
        found = self._by_tag.get(tag)
        if found is None:
            servers = self._servers(tag)
            pieces = [s.longest_piece for s in servers if s.longest_piece]
            found = tuple((s.name, p) for s in servers for p in s.patterns), min(pieces, default=0)
            if len(self._by_tag) < _MOST_TAGS:
                self._by_tag[tag] = found
        return found

    def _servers(self, tag: bytes) -> list[Server]:
        return [s for s in self._chosen if s.tag and s.tag.regex.fullmatch(tag)]

    def _read(self, server: str, pattern: Pattern, found: re.Match[bytes], header: Header) -> Event:
        fields = found.groupdict(b"")
        role = pattern.role
        address = ""
        if role == "login" and self._cut.is_rest(header):
            raise _NoEventError("the rest of a line that was cut: a client may have written it")
        if role == "failure":
            self._clients.take((server, header.host, header.pid))
        else:
            count = found.string.count
            for text in pattern.once:
                if count(text) > 1:
                    raise _NoEventError(
                        f"{text.decode().strip()} stands in it twice:"
                        " an outsider may have written one of them"
                    )
            if own := fields.get("address") or fields.get("other"):
                address = _client(own)
            if not address or role == "connect":
                process = (server, header.host, header.pid)
                address = self._joined(pattern, address, fields, process, header)
            if role == "login" and (local := _LOCAL.search(found.string)):
                _other_host_only(address, local[1])
        user = (fields.get("user") or fields.get("bare", b"")).decode("utf-8", "backslashreplace")
        if user.lower() == "anonymous":
            raise _NoEventError("an anonymous login")
        if role == "login" and self._has_logouts and (session := fields.get("session")):
            self._sessions.put((server, session), address)
        kind: Kind = "login" if role == "connect" else role
        service = _service(fields.get("service") or header.tag)
        stamp = header.stamp or fields.get("stamp", b"")
        return Event(kind, server, address, user, service, stamp.decode("ascii"))

    def _joined(
        self,
        pattern: Pattern,
        address: str,
        fields: dict[str, bytes],
        process: tuple[str | bytes, ...],
        header: Header,
    ) -> str:
        """Return the address that an earlier line has; of a connection, keep it for a later one."""
        if pattern.role == "connect":
            self._clients.put(process, (address, header.stamp.decode("ascii")))
            raise _NoEventError("a connection; its login is another line")
        if pattern.role == "logout":
            if known := self._sessions.take((process[0], fields.get("session", b""))):
                return known
            raise _NoEventError("the end of a session whose login was not seen")
        client = self._clients.take(process) if header.pid else None
        if not client:
            raise _NoEventError("no line before it has the address of this process")
        between_s = apart_s(client[1], header.stamp.decode("ascii"))
        if between_s is None or between_s > _TWO_LINES_S:
            raise _NoEventError("the line with the address of this process is too old")
        return client[0]

    def _why(self, line: bytes, header: Header | None) -> str:
        if not header:
            return "no program's name where one belongs"
        name = printable(header.tag.decode("ascii"))
        servers = self._servers(header.tag)
        for server in servers:
            for regex, reason in server.reasons:
                if regex.match(line, header.end):
                    return reason
        if servers:
            return f"{name} says nothing of a login here"
        return f"{name} is not a program whose lines are looked at"


def _client_only(address: str) -> None:
    if (kind := never_counts(address)) in {"unspecified", "multicast"}:
        raise _NoEventError(f"{address} is {kind}, no client's address")


def _other_host_only(address: str, local: bytes) -> None:
    """Raise _NoEventError where the client is the server itself: its webmail, say.

    A site's private addresses are its own affair: popbsmtp watch ignores those of this machine.
    """
    try:
        same = canonical_address(local.decode("ascii")) == address
    except ValueError:
        return
    if same and not _PRIVATE.match(address):
        raise _NoEventError(f"{address} is the server's own address")


@lru_cache(_MOST_ADDRESSES)
def _client(text: bytes) -> str:
    """Return the canonical address. Raise _NoEventError for one that is no client's."""
    try:
        address = canonical_address(text.decode("ascii"))
    except ValueError as error:
        raise _NoEventError(str(error)) from None
    _client_only(address)
    return address


@lru_cache(_MOST_TAGS)
def _service(text: bytes) -> str:
    lower = text.lower()
    return "imap" if b"imap" in lower else "pop3" if b"pop" in lower else ""


def _bared(line: bytes) -> bytes:
    """Return *line* without what copytruncate leaves where the log was: zeros."""
    # #015 is a carriage return as rsyslog writes it.
    return line.lstrip(b"\0").rstrip(b"\r\n \0").removesuffix(b"#015").rstrip(b" ")
