"""The client's side of a protocol of lines, for tests that watch every byte."""

import re
import socket
import time
from typing import ClassVar

from .closing import Closing


class LoginError(Exception):
    """The server refused the login or hung up; *received* is all it sent since the command."""

    def __init__(self, received: bytes) -> None:
        super().__init__(f"login failed, received {received!r}")
        self.received = received


class LineSession(Closing):
    """A connection whose every wait ends after timeout_s.

    unexpected: all bytes so far that were neither a reply nor an untagged line.
    received: all bytes since the last login command was sent.
    login_seconds: from that command to the tagged OK.
    """

    # A whole line that may come before the reply that is waited for.
    untagged: ClassVar[re.Pattern[bytes]]
    greets: ClassVar[bytes]

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self.unexpected = b""
        self.received = b""
        self.login_seconds = 0.0
        self._socket = socket.create_connection((host, port), timeout=timeout_s)
        self._timeout_s = timeout_s
        self._buffer = b""
        try:
            self.greeting = self.reply(self.greets)
        except BaseException:
            self.close()
            raise

    def send(self, line: str) -> None:
        """Send *line* with CRLF."""
        self._socket.sendall(line.encode() + b"\r\n")

    def reply(self, pattern: bytes) -> bytes:
        """Return the line that begins with *pattern*, without CRLF; b"" at the connection's end.

        What comes before it, even in its own line, is unexpected unless it is untagged lines.
        Raise TimeoutError if neither comes.
        """
        wanted = re.compile(rb"(.*?)((?:" + pattern + rb")[^\r\n]*)\r\n", re.DOTALL)
        deadline = time.monotonic() + self._timeout_s
        while not (found := wanted.match(self._buffer)):
            # 0 would make the socket non-blocking.
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._receive()
            if not data:
                self._sort(self._buffer)
                self._buffer = b""
                return b""
            self._buffer += data
        self._sort(found[1])
        self._buffer = self._buffer[found.end() :]
        return found[2]

    def log_in(self, line: str, pattern: bytes, success: bytes) -> None:
        """Send the login command; raise LoginError unless its reply begins with *success*."""
        self.received = b""
        sent = time.monotonic()
        self.send(line)
        answer = self.reply(pattern)
        self.login_seconds = time.monotonic() - sent
        if not answer.startswith(success):
            self.close()
            raise LoginError(self.received)

    def expect_end(self) -> None:
        """Assert that the server closes the connection without another byte."""
        # Matches nothing, so that all that comes is sorted as unexpected.
        self.reply(rb"(?!)")
        rest = self._buffer
        self.close()
        assert rest == b"", rest

    def close(self) -> None:
        """Hang up without a word."""
        self._socket.close()

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(65536)
        except ConnectionResetError:
            data = b""
        self.received += data
        return data

    def _sort(self, data: bytes) -> None:
        for line in data.splitlines(keepends=True):
            if not self.untagged.fullmatch(line):
                self.unexpected += line
