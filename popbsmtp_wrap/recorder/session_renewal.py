"""Sessions that stay open in Dovecot: asked for again and again, and their rows renewed.

A task of its own beside the logins. Whatever doveadm does, or does not, is logged when it begins.
"""

import asyncio
import time
from typing import Any, Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.dovecot.doveadm import PLACES, ask, find
from popbsmtp_wrap.errors import PopbsmtpError, RefusedError, ServiceUnavailableError
from popbsmtp_wrap.networks import ignored_networks
from popbsmtp_wrap.recorder.renewals import DOVEADM, Renewals

# Dovecot or the database may be back long before the next renewal is due.
_AGAIN_S: Final = 30.0


class SessionRenewal:
    """Has the rows of Dovecot's open sessions renewed every sessions.renew."""

    def __init__(self, settings: Settings, renewals: Renewals, log: EventLog) -> None:
        """Nothing is asked before run()."""
        # Addresses at the last answer, None before one.
        self.open: int | None = None
        self.answers = 0
        self.trouble: str | None = None
        self._settings = settings
        self._renewals = renewals
        self._log = log
        self._changed = asyncio.Event()

    def adopt(self, settings: Settings) -> None:
        """Go on with other settings, at once."""
        self._settings = settings
        self._changed.set()

    def status(self) -> dict[str, Any]:
        """Return what `popbsmtp status --json` prints of it."""
        return {"open": self.open, "answers": self.answers, "error": self.trouble}

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            self._changed.clear()
            every_s = self._settings.renew
            command = find(self._settings.sessions.doveadm) if every_s else None
            if command:
                await self._once(command)
            else:
                self.open = self.trouble = None
            await self._pause(min(every_s, _AGAIN_S) if self.trouble else every_s)

    async def _once(self, command: list[str]) -> None:
        # Sessions may end while doveadm lists them, so they count as seen before that.
        since = time.monotonic()
        try:
            addresses = await ask(command)
            self.open = len(addresses)
            await self._renewals.renew(DOVEADM, sorted(addresses), since)
        except PopbsmtpError as error:
            self._fails(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the next time may be better
            self._log.unexpected("sessions", error)
            self._fails(repr(error))
        else:
            if self.trouble:
                self._log.event("sessions_renewed", open=self.open)
            self.trouble = None
            self.answers += 1

    def _fails(self, trouble: str) -> None:
        if not self.trouble:
            self._log.event("sessions_not_renewed", error=trouble)
        self.trouble = trouble

    async def _pause(self, pause_s: float) -> None:
        """Wait for *pause_s*, for ever if that is 0, or until the settings change."""
        try:
            async with asyncio.timeout(pause_s or None):
                await self._changed.wait()
        except TimeoutError:
            return


async def renew_once(settings: Settings) -> int:
    """Return how many rows the addresses of Dovecot's open sessions have, all renewed.

    Raise ServiceUnavailableError when doveadm does not tell them, RefusedError when the database
    refuses to change a row, and as Renewals.renew() does.
    """
    command = find(settings.sessions.doveadm)
    if command is None:
        raise ServiceUnavailableError(
            f"there is no {' or '.join(PLACES)}; name it in doveadm of [sessions]"
        )
    refused: dict[str, str] = {}
    renewals = Renewals(
        settings,
        ignored_networks(settings.ignore),
        Counts(),
        not_taken=refused.__setitem__,
        once=True,
    )
    since = time.monotonic()
    try:
        rows = await renewals.renew(DOVEADM, sorted(await ask(command)), since)
    finally:
        renewals.close()
    for address, error in refused.items():
        raise RefusedError(
            f"{error}; {address} is not renewed ({len(refused)} such rows), {rows} others are"
        )
    return rows
