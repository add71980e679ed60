"""Lines out of bytes that come in pieces; no I/O."""

from typing import Final

# No mail server writes a longer one: syslog(3) cuts at 1024 bytes, rsyslog at 8 kB by default, and
# Dovecot's names are cut at 80 characters. It keeps memory and the time for a line bounded.
LONGEST_LINE: Final = 4096


class LineBuffer:
    """Cuts lines; of a line without its end at most LONGEST_LINE bytes are kept.

    A line is evidence only as a whole: what is over-long is dropped to its end, and what has no
    end yet waits for it.
    """

    def __init__(self, offset: int = 0) -> None:
        """*offset* is where in a file the first byte stands."""
        # Behind the last line that was complete: reading may begin there again.
        self.end = offset
        self._next = offset
        self._rest = b""
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that *data* completes, without their ends."""
        dropping = self._dropping
        lines = self.block(data).split(b"\n")
        lines.pop()
        if dropping:
            del lines[:1]
        return [whole for line in lines if len(whole := line.lstrip(b"\0")) <= LONGEST_LINE]

    def block(self, data: bytes) -> bytes:
        """Return the lines that *data* completes with their ends.

        Of an over-long line that came in several pieces the end alone is left.
        """
        last = data.rfind(b"\n") + 1
        start = self._next
        self._next += len(data)
        if not last:
            self._keep(data)
            return b""
        self.end = start + last
        first = data.index(b"\n") if self._dropping else 0
        block = self._rest + data[first:last]
        self._rest, self._dropping = b"", False
        self._keep(data[last:])
        return block

    def _keep(self, data: bytes) -> None:
        if self._dropping:
            return
        # Whoever goes on writing where he was in a file that was truncated leaves a hole before.
        self._rest = (self._rest + data).lstrip(b"\0")
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._dropping = b"", True
