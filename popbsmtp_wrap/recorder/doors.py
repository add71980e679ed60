"""What is spoken on the recorder's sockets: popbsmtp-wrap's line, and Dovecot's script-login."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.supervisor import Supervisor
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.recorder import control
from popbsmtp_wrap.recorder.connection import Connection
from popbsmtp_wrap.recorder.pending_login import Answer
from popbsmtp_wrap.sources import postlogin
from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_aged_request

WRAPPER: Final = "wrapper"


class Recording(Protocol):
    """Where a door takes its logins."""

    def login(self, source: str, login: Login, answer: Answer) -> None:
        """Queue *login* unless its address never counts; call *answer* exactly once."""

    def control(self, word: str, arguments: list[str]) -> Coroutine[Any, Any, str]:
        """Do what an administrator asks and return the answer's text. Raise PopbsmtpError."""


class WrapperDoor:
    """One line from popbsmtp-wrap (wire.py), or from an administrator (control.py)."""

    name = WRAPPER
    service = ""

    def __init__(self, recording: Recording, supervisor: Supervisor) -> None:
        self._recording = recording
        self._supervisor = supervisor

    def is_complete(self, received: bytes) -> bool:
        """Tell whether the line has its end, or never will."""
        return b"\n" in received or len(received) > LONGEST_LINE

    def serve(self, connection: Connection, request: bytes) -> None:
        """Record a login or do an administrator's bidding. Raise ValueError for other lines."""
        if control.is_control(request):
            self._administer(connection, *control.parse(request))
            return
        login = make_login(*parse_aged_request(request))

        def answer(trouble: str | None) -> None:
            connection.send(format_answer("NO", trouble) if trouble else b"OK\n")

        self._recording.login(WRAPPER, login, answer)

    def refusal(self, reason: str) -> bytes:
        """Return the answer that makes the wrapper record by itself."""
        return format_answer("NO", reason)

    def _administer(self, connection: Connection, word: str, arguments: list[str]) -> None:
        # Those who may record logins may not see or undo what others do.
        if word != "renew" and connection.uid not in (0, os.geteuid()):
            raise ValueError(f"user {connection.uid} is not root or the recorder's user")

        async def administer() -> None:
            try:
                text = await self._recording.control(word, arguments)
            except PopbsmtpError as error:
                connection.send(format_answer("NO", str(error)))
            except Exception:
                connection.close_unexpected()
                raise
            else:
                connection.send(f"OK\t{text}\n".encode("ascii"))

        self._supervisor.start_task("control", administer())


class _Late:
    """A reply that goes out after some time in any case."""

    def __init__(self, connection: Connection, reply: bytes, timeout_s: float) -> None:
        self._connection = connection
        self._reply = reply
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        # Most replies go out in this turn of the loop: a timer would cost as much as all the rest.
        asyncio.get_running_loop().call_soon(self._wait)

    def _wait(self) -> None:
        if self._connection.is_open:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._timeout_s, self._connection.send, self._reply)

    def answer(self, _: str | None) -> None:
        """Send the reply now."""
        if self._timer:
            self._timer.cancel()
        self._connection.send(self._reply)


class PostLoginDoor:
    """Dovecot's own request (sources/postlogin.py); without a reply no mailbox opens."""

    def __init__(
        self,
        service: str,
        recording: Recording,
        reply_timeout_s: Callable[[], float],
        log: EventLog,
    ) -> None:
        self.name = f"postlogin-{service}"
        self.service = service
        self._recording = recording
        self._reply_timeout_s = reply_timeout_s
        self._log = log

    def is_complete(self, received: bytes) -> bool:
        """Tell whether both lines are there, or never will be."""
        return postlogin.is_complete(received)

    def serve(self, connection: Connection, request: bytes) -> None:
        """Record the login and reply; in any case after reply_timeout. Raise ValueError."""
        asked = postlogin.parse(request)
        if asked.master:
            connection.send(asked.reply)
            return
        try:
            login = make_login(asked.remote, asked.user, self.service)
        except ValueError as error:
            self._log.event("not_recorded", socket=self.name, error=error)
            connection.send(asked.reply)
            return
        late = _Late(connection, asked.reply, self._reply_timeout_s())
        self._recording.login(self.name, login, late.answer)

    def refusal(self, reason: str) -> bytes:
        """Return nothing: there is no such answer in this protocol."""
        return b""
