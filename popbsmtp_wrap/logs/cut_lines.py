"""Lines that a program or a container's runtime has cut: what follows may begin anywhere."""

import re
from typing import Final

from popbsmtp_wrap.logs.correlation import Memory
from popbsmtp_wrap.logs.header import Header
from popbsmtp_wrap.logs.timestamps import apart_s

# The pieces of a line are logged at once.
_AT_ONCE_S: Final = 2
# containerd's form: P for a piece of a line, F for its end or for a whole one.
_CONTAINER: Final = re.compile(rb"[0-9-]{10}T[^ ]{8,40}[ ](stdout|stderr)[ ]([FP])[ ]")


class CutLines:
    """Knows which lines of one log go on in the next one; a client may have written the rest."""

    def __init__(self) -> None:
        # When a program's line was cut, by host and program.
        self._programs: Memory[str] = Memory()
        # The streams of containers whose line goes on.
        self._streams: set[bytes] = set()

    def is_piece_of_container(self, line: bytes) -> bool:
        """Tell whether *line* is a piece of a container's line, and not a whole one."""
        found = _CONTAINER.match(line)
        if not found:
            return False
        stream, is_last = found[1], found[2] == b"F"
        is_rest = stream in self._streams
        if is_last:
            self._streams.discard(stream)
        else:
            self._streams.add(stream)
        return is_rest or not is_last

    def add(self, header: Header) -> None:
        """Remember that the line behind *header* was cut."""
        self._programs.put((header.host, header.tag), header.stamp.decode("ascii"))

    def is_rest(self, header: Header) -> bool:
        """Tell whether a line of the same program was cut a moment before *header*."""
        if not len(self._programs):
            return False
        cut = self._programs.take((header.host, header.tag))
        if cut is None:
            return False
        between_s = apart_s(cut, header.stamp.decode("ascii"))
        return between_s is None or between_s <= _AT_ONCE_S
