"""Whether the database takes logins: up until a commit fails, then down until a probe succeeds."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from popbsmtp_wrap.daemon.backoff import Backoff
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.errors import PopbsmtpError


class CircuitBreaker:
    """While it is down, logins go to the spool at once, and only the probe costs the database."""

    def __init__(
        self, probe: Callable[[], Awaitable[None]], came_up: Callable[[], None], log: EventLog
    ) -> None:
        """*probe* raises PopbsmtpError while the database takes no logins."""
        self.up = True
        # Why it is down, None while it is up.
        self.trouble: str | None = None
        self._probe = probe
        self._came_up = came_up
        self._log = log
        self._backoff = Backoff()
        # When the next probe is due, None while one is under way.
        self._due: float | None = None
        self._is_down = asyncio.Event()
        self._is_up = asyncio.Event()
        self._is_up.set()
        # Ends the pause before the next probe.
        self._wake = asyncio.Event()

    def trip(self, trouble: str) -> None:
        """Go down, or learn more of why it is down."""
        before, self.trouble = self.trouble, trouble
        if self.up:
            self.up = False
            self._due = time.monotonic()
            self._is_up.clear()
            self._is_down.set()
            self._log.event("database_down", error=trouble)
        elif trouble != before:
            # "no commit within 0.4 s" comes first, and the cause a moment later.
            self._log.event("database_error", error=trouble)

    def reset(self) -> None:
        """Go up: the database has taken something."""
        self._backoff.reset()
        self._go_up()

    def _go_up(self) -> None:
        if self.up:
            return
        self.up, self.trouble = True, None
        self._is_down.clear()
        self._is_up.set()
        self._wake.set()
        self._came_up()

    def hurry(self) -> None:
        """Let the next probe come soon: the database is another one now."""
        self._backoff.reset()

    async def until_up(self) -> None:
        """Return when it is up."""
        await self._is_up.wait()

    def probe_now(self) -> None:
        """Begin the next probe without a pause: somebody waits for what it finds."""
        self._wake.set()

    def oldest_s(self) -> float:
        """Return for how long a probe has been due that does not begin."""
        if self.up or self._due is None:
            return 0.0
        return max(0.0, time.monotonic() - self._due)

    async def probe_while_down(self) -> None:
        """Probe with growing pauses while it is down; a job."""
        while True:
            await self._is_down.wait()
            pause_s = self._backoff.next_s()
            self._due = time.monotonic() + pause_s
            try:
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            if self.up:
                continue
            self._due = None
            try:
                await self._probe()
            except PopbsmtpError as error:
                if not self.up:
                    self.trip(str(error))
            else:
                # Pauses go on growing until it has taken a login: it may refuse those that wait.
                self._go_up()
