"""Lines in, logins out.

A line is evidence that an outsider has partly written: all of it that is not known to be the
server's own is distrusted. What is ambiguous does not count.
"""

import re
from collections.abc import Collection, Sequence
from typing import Final

from popbsmtp_wrap.address import canonical_address, never_counts, printable
from popbsmtp_wrap.own_pattern import OwnPattern
from popbsmtp_wrap.sources.logs.event import Event
from popbsmtp_wrap.sources.logs.header import Header, read_header, read_stamp
from popbsmtp_wrap.sources.logs.memory import Memory
from popbsmtp_wrap.sources.logs.pattern import Pattern, Server
from popbsmtp_wrap.sources.logs.servers import SERVERS
from popbsmtp_wrap.sources.logs.times import apart_s

# No server writes more of a login; syslog cuts at 1024 (RFC 3164) to 8192 bytes (rsyslog).
LONGEST_LINE: Final = 4096
# popa3d gives a client 5 minutes to log in (AUTH_TIMEOUT in params.h), solid-pop3d 10.
_TWO_LINES_S: Final = 600
# Distinct tags of a log; a log of more has tags from outside.
_MOST_TAGS: Final = 1000


def server_names() -> list[str]:
    """Return the names that Recogniser takes."""
    return sorted({server.name for server in SERVERS})


class Recogniser:
    """Tells logins from other lines.

    Lines of one log go in their order: some servers need two for a login. Not safe for threads.
    """

    def __init__(self, servers: Collection[str] = (), own: Sequence[OwnPattern] = ()) -> None:
        """Take all servers when *servers* is empty. Raise ValueError for an unknown name."""
        if unknown := set(servers) - set(server_names()) - {pattern.name for pattern in own}:
            raise ValueError(f"no server {', '.join(sorted(unknown))}")
        chosen = [server for server in SERVERS if not servers or server.name in servers]
        self._own = tuple(pattern for pattern in own if not servers or pattern.name in servers)
        self._tagged = tuple(server for server in chosen if server.tag)
        self._bare = tuple(server for server in chosen if not server.tag)
        self._words = tuple(dict.fromkeys(word for server in chosen for word in server.words))
        self._by_tag: dict[bytes, tuple[Server, ...]] = {}
        self._clients: Memory[tuple[str, str]] = Memory()
        self._sessions: Memory[str] = Memory()

    def recognise(self, line: bytes) -> Event | None:
        """Return what *line*, without its end, says; None if it says nothing that counts."""
        for word in self._words:
            if word in line:
                break
        else:
            if not self._own:
                return None
        found = self.judge(line)
        return found if isinstance(found, Event) else None

    def explain(self, line: bytes) -> str:
        """Return what *line* is, or why it does not count. Takes the place of recognise()."""
        found = self.judge(line)
        if isinstance(found, str):
            return found
        parts = (found.kind, found.server, found.address, found.user and printable(found.user))
        return " ".join(part for part in (*parts, found.service) if part)

    def judge(self, line: bytes) -> Event | str:
        """Return the event, or why there is none."""
        if len(line) > LONGEST_LINE:
            return f"longer than {LONGEST_LINE} bytes"
        # Zeros: what copytruncate leaves where the log was.
        line = line.lstrip(b"\0").rstrip(b"\r\n \0")
        header = read_header(line)
        if header:
            servers = self._by_tag.get(header.tag)
            if servers is None:
                servers = self._servers(header.tag)
            for server in servers:
                for pattern in server.patterns:
                    if found := pattern.regex.match(line, header.end):
                        return self._event(server.name, pattern, found, header)
        stamp, start = read_stamp(line)
        bare = Header(stamp, b"", b"", b"", start, start)
        for server in self._bare:
            for pattern in server.patterns:
                if found := pattern.regex.match(line, start):
                    return self._event(server.name, pattern, found, bare)
        for own in self._own:
            if result := _own_event(own, line, header or bare):
                return result
        return self._why(line, header)

    def _servers(self, tag: bytes) -> tuple[Server, ...]:
        servers = tuple(s for s in self._tagged if s.tag and s.tag.fullmatch(tag))
        if len(self._by_tag) < _MOST_TAGS:
            self._by_tag[tag] = servers
        return servers

    def _event(
        self, server: str, pattern: Pattern, found: re.Match[bytes], header: Header
    ) -> Event | str:
        fields = found.groupdict(b"")
        user = _text(fields.get("user") or fields.get("bare", b""))
        client = fields.get("address") or fields.get("other", b"")
        service = _service(fields.get("service") or header.tag)
        stamp = header.stamp.decode("ascii")
        process = (server, header.host, header.pid)
        if pattern.role == "failure":
            if header.pid:
                self._clients.take(process)
            return Event("failure", server, "", user, service, stamp)
        for text in pattern.once:
            if found.string.count(text) > 1:
                return f"{text.decode()} stands in it twice: an outsider may have written one"
        if pattern.role == "logout" and (session := fields.get("session")):
            address = self._sessions.take((server, session))
            if not address:
                return "the end of a session whose login was not seen"
            return Event("logout", server, address, user, service, stamp)
        if client:
            try:
                address = canonical_address(client.decode("ascii"))
            except ValueError as error:
                return str(error)
            if (kind := never_counts(address)) in {"unspecified", "multicast"}:
                return f"{address} is {kind}, no client's address"
            if pattern.role == "connect":
                self._clients.put(process, (address, stamp))
                return "a connection; the login is another line"
            if pattern.role == "logout":
                return Event("logout", server, address, user, service, stamp)
        else:
            connection = self._clients.take(process) if header.pid else None
            if not connection:
                return "no line before has the address of this process"
            address, then = connection
            between_s = apart_s(then, stamp)
            if between_s is None or not 0 <= between_s <= _TWO_LINES_S:
                return "the line with the address of this process is too old"
        if user.lower() == "anonymous":
            return "an anonymous login"
        if session := fields.get("session"):
            self._sessions.put((server, session), address)
        return Event("login", server, address, user, service, stamp)

    def _why(self, line: bytes, header: Header | None) -> str:
        if not header:
            return "no program's name where one belongs"
        name = printable(header.tag.decode("ascii"))
        servers = self._servers(header.tag)
        if not servers:
            return f"{name} is none of the programs that are looked for"
        for server in servers:
            for regex, reason in server.reasons:
                if regex.match(line, header.end):
                    return reason
        return f"{name} says nothing of a login here"


def _own_event(own: OwnPattern, line: bytes, header: Header) -> Event | None:
    found = own.read(line[header.start :])
    if not found:
        return None
    stamp = header.stamp.decode("ascii")
    return Event(found.kind, own.name, found.address, found.user, found.service, stamp)


def _service(text: bytes) -> str:
    lower = text.lower()
    return "imap" if b"imap" in lower else "pop3" if b"pop" in lower else ""


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
