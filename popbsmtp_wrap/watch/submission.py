"""Logins on their way to the recorder: several at once, again and again, or into its spool."""

import asyncio
import socket
import time
from collections.abc import Collection, Iterable
from functools import partial
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.daemon.backoff import Backoff
from popbsmtp_wrap.daemon.worker_thread import WorkerThread
from popbsmtp_wrap.errors import SpoolError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.protocols import admin
from popbsmtp_wrap.spool.append import put
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.watch.log_target import WatchLog
from popbsmtp_wrap.watch.observed_login import ObservedLogin
from popbsmtp_wrap.wire import LONGEST_LINE, format_request, parse_answer, read_clocks

# The recorder commits up to 512 at once; so many fit well into its queue beside other logins.
_AT_ONCE: Final = 64
# The recorder commits or spools within a second or two.
_ANSWER_S: Final = 10.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 2.0
# A recorder that is restarted is back by then, see docs/recorder.md.
_SPOOL_AFTER_S: Final = 3.0


class Submission:
    """Hands logins to the recorder, and keeps each until it is safe."""

    def __init__(self, settings: Settings, log: WatchLog) -> None:
        self.settings = settings
        # While it stops it cannot wait for a recorder that may come back.
        self.stopping = False
        self.delivered = 0
        # How many logins are not safe yet.
        self.under_way = 0
        self._log = log
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._away_since: float | None = None
        self._next_try = 0.0
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self._thread = WorkerThread("spool", SpoolError, log)
        self._renewing = True

    async def renew(self, addresses: Collection[str]) -> set[str]:
        """Have the rows of *addresses* renewed; return those where the recorder did not do it.

        A renewal is no login and never waits in the spool: it would undo a revoke.
        """
        left = set(addresses)
        for portion in admin.portions(addresses):
            _, trouble = await self._exchange(admin.request("renew", portion))
            if trouble is not None:
                if self._renewing:
                    self._log.event("not_renewed", addresses=len(left), error=trouble)
                self._renewing = False
                return left
            left.difference_update(portion)
        self._renewing = True
        return left

    async def deliver(self, logins: Iterable[ObservedLogin]) -> None:
        """Return when all of *logins* are in the table or the spool, or older than grace.

        Of several logins from one address the newest counts.
        """
        newest: dict[str, ObservedLogin] = {}
        for observed in logins:
            before = newest.get(observed.address)
            if before is None or before.moment <= observed.moment:
                newest[observed.address] = observed
        self.under_way += len(newest)
        try:
            async with asyncio.TaskGroup() as group:
                for observed in newest.values():
                    group.create_task(self._deliver(observed))
        finally:
            self.under_way -= len(newest)

    async def _deliver(self, observed: ObservedLogin) -> None:
        async with self._places:
            await self._persist(observed)

    async def _persist(self, observed: ObservedLogin) -> None:
        began, backoff = time.monotonic(), Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        refused = False
        while True:
            now = time.monotonic()
            login = observed.login(now)
            if login.age_s > self.settings.grace:
                return
            if self._away_since is None or now >= self._next_try:
                is_there, trouble = await self._ask(login)
                if is_there:
                    self._is_back()
                else:
                    self._is_away(trouble)
                if trouble is None:
                    self.delivered += 1
                    return
                if is_there and not refused:
                    refused = True
                    self._log.event("refused", address=login.address, error=trouble)
            if self._may_spool(began) and await self._spool(observed):
                return
            await asyncio.sleep(backoff.next_s())

    async def _ask(self, login: Login) -> tuple[bool, str | None]:
        """Return as _exchange() does whether the recorder has taken *login*."""
        # Nobody else tries meanwhile, if this is the one that tries.
        self._next_try = time.monotonic() + _ANSWER_S
        user, service = (text.encode("utf-8") for text in (login.user or "", login.service or ""))
        # With the moment of that age: the recorder may read it late.
        return await self._exchange(
            format_request(login.address, user, service, login.age_s, read_clocks())
        )

    async def _exchange(self, request: bytes) -> tuple[bool, str | None]:
        """Return whether the recorder answers, and why it has not done what *request* asks.

        None means that it has. It answers NO for what its database refuses, and while it has no
        room.
        """
        loop = asyncio.get_running_loop()
        answer = b""
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.setblocking(False)
                async with asyncio.timeout(_ANSWER_S):
                    await loop.sock_connect(peer, self.settings.recorder.socket)
                    await loop.sock_sendall(peer, request)
                    while not answer.endswith(b"\n") and len(answer) < LONGEST_LINE:
                        if not (data := await loop.sock_recv(peer, LONGEST_LINE)):
                            break
                        answer += data
        except TimeoutError:
            return False, f"no answer within {_ANSWER_S:g} s"
        except OSError as error:
            return False, error.strerror or str(error)
        word, text = parse_answer(answer.rstrip(b"\n"))
        if word == "OK":
            return True, None
        return word == "NO", text or "it closed the connection"

    def _is_back(self) -> None:
        if self._away_since is not None:
            self._log.event("recorder_back", away_s=time.monotonic() - self._away_since)
        self._away_since = None
        self._backoff.reset()

    def _is_away(self, trouble: str | None) -> None:
        now = time.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._log.event("recorder_away", socket=self.settings.recorder.socket, error=trouble)
        self._next_try = now + self._backoff.next_s()

    def _may_spool(self, began: float) -> bool:
        since = began if self._away_since is None else min(began, self._away_since)
        return self.stopping or time.monotonic() - since > _SPOOL_AFTER_S

    async def _spool(self, observed: ObservedLogin) -> bool:
        """Tell whether the login is safe in the recorder's spool."""
        recorder = self.settings.recorder
        stamp, login = Stamp.now(), observed.login(time.monotonic())
        try:
            await self._thread.run(partial(put, recorder.spool, recorder.spool_size, login, stamp))
        except SpoolError as error:
            self._log.event("spool_failed", error=error)
            return False
        self._log.event("spooled", address=login.address)
        return True
