"""Lines of a file, as bytes, in bounded memory."""

from collections.abc import Iterator
from typing import Final, Protocol

from popbsmtp_wrap.sources.logs.recogniser import LONGEST_LINE

_BLOCK: Final = 1 << 20  # from 256 KiB on it makes no difference (bench/logs.py)


class Source(Protocol):
    """What bytes come from: a raw file."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to *size* bytes, b"" at the end."""


def read_lines(source: Source) -> Iterator[list[bytes]]:
    """Yield the lines of *source* in lists, without their ends; the last one may lack its end.

    Of a line that is longer than LONGEST_LINE only so much is kept that it is still too long.
    """
    rest = b""
    while block := source.read(_BLOCK):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()[: LONGEST_LINE + 1]
        yield lines
    if rest:
        yield [rest]
