"""Standard input, as syslog daemons pipe to it; its end is the end."""

import asyncio
import os
import stat
import time
from collections.abc import AsyncIterator
from typing import Final

from popbsmtp_wrap.logs.line_buffer import LineBuffer

# What a pipe holds (pipe(7)).
_PIECE: Final = 1 << 16


class StandardInput:
    """Lines that come by a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        # A file that is redirected is history.
        self._live = not stat.S_ISREG(os.fstat(descriptor).st_mode)

    async def pieces(self) -> AsyncIterator[tuple[list[bytes], float | None]]:
        """Yield lines and when they came, on the monotonic clock, None if nobody knows.

        An unfinished last line is not returned. Raise OSError.
        """
        lines = LineBuffer()
        while data := await self._read():
            if found := lines.feed(data):
                yield found, time.monotonic() if self._live else None

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            # epoll(7) takes no regular files: they are always ready.
            await asyncio.sleep(0)
            return os.read(self._descriptor, _PIECE)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, _PIECE)
