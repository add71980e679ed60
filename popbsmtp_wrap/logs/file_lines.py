"""Lines of a file, as bytes, in bounded memory."""

from collections.abc import Iterator
from typing import Final, Protocol

from popbsmtp_wrap.logs.recogniser import LONGEST_LINE

_BLOCK: Final = 1 << 20  # from 256 KiB on it makes no difference (bench/logs.py)


class Readable(Protocol):
    """What bytes come from: a raw file."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to *size* bytes, b"" at the end."""


def read_blocks(source: Readable) -> Iterator[bytes]:
    """Yield the whole lines of *source*, many at once; the last one may lack its end.

    Of a line that is longer than LONGEST_LINE only so much is kept that it is still too long.
    """
    rest = b""
    while block := source.read(_BLOCK):
        last = block.rfind(b"\n") + 1
        if last:
            yield rest + block[:last]
            rest = b""
        rest = (rest + block[last:])[: LONGEST_LINE + 1]
    if rest:
        yield rest
