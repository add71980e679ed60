"""What is spoken on the recorder's sockets: popbsmtp-wrap's line, and Dovecot's script-login."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

from popbsmtp_wrap.address import canonical_address
from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.supervisor import Supervisor
from popbsmtp_wrap.errors import PopbsmtpError
from popbsmtp_wrap.login import Login, make_login
from popbsmtp_wrap.protocols import admin, script_login
from popbsmtp_wrap.server.connection import Connection
from popbsmtp_wrap.spool.timestamp import Stamp, age_s
from popbsmtp_wrap.wire import LONGEST_LINE, format_answer, parse_timed_request, read_clocks

WRAPPER: Final = "wrapper"
# What a wrapper and a recorder on the same machine take for one login, unless the machine is very
# busy. Such a login is one of now: rounded up to a second it would lie before a revoke it follows.
_PROMPT_S: Final = 0.2
# How long Dovecot waits for a reply by default (login-server.h); a wrapper waits less. Who has a
# request without a time, and still waits, has not waited longer.
_LONGEST_WAIT_S: Final = 60.0

# Called once: with None when the login is safe, otherwise with the reason why it is not.
Answer = Callable[[str | None], None]


class Recording(Protocol):
    """Where a handler takes its logins."""

    @property
    def grace_s(self) -> int:
        """How long a login counts."""

    def login(self, source: str, login: Login, answer: Answer) -> None:
        """Queue *login* unless its address never counts; call *answer* exactly once."""

    def not_recorded(self, source: str, kind: str, reason: str) -> None:
        """Count and log a request that is no login; *kind* is a key of the outcomes."""

    def control(self, word: str, arguments: list[str]) -> Coroutine[Any, Any, str]:
        """Do what an administrator asks and return the answer's text. Raise PopbsmtpError."""


class WrapperHandler:
    """One line from popbsmtp-wrap (wire.py), or from an administrator (control.py)."""

    name = WRAPPER
    service = ""

    def __init__(
        self,
        recording: Recording,
        supervisor: Supervisor,
        wait_s: Callable[[], float] | None = None,
        *,
        prompt_s: float = _PROMPT_S,
    ) -> None:
        """*wait_s* returns how long wrappers that cannot know it should wait, from their start.

        A login that is *prompt_s* old when it is read is one of now.
        """
        self._recording = recording
        self._supervisor = supervisor
        self._wait_s = wait_s
        self._prompt_s = prompt_s

    def is_complete(self, received: bytes) -> bool:
        """Tell whether the line has its end, or never will."""
        return b"\n" in received or len(received) > LONGEST_LINE

    def serve(self, connection: Connection, request: bytes) -> None:
        """Record a login or do an administrator's bidding. Raise ValueError for other lines."""
        if admin.is_control(request):
            self._administer(connection, *admin.parse(request))
            return
        address, user, service, age_s, moment = parse_timed_request(request)
        if moment is not None:
            passed_s = _age_now_s(moment)
            queued_s = passed_s if passed_s > self._prompt_s else 0.0
        elif connection.has_hung_up:
            self._recording.not_recorded(WRAPPER, *_HUNG_UP)
            connection.send(self.refusal(_HUNG_UP[1]))
            return
        else:
            queued_s = _queued_s(connection, self._recording)
        login = make_login(address, user, service, age_s + queued_s)

        def answer(trouble: str | None) -> None:
            connection.send(format_answer("NO", trouble) if trouble else b"OK\n")

        self._recording.login(WRAPPER, login, answer)
        if self._wait_s is not None and connection.is_open:
            # Most answers go out in this turn of the loop.
            wait = format_answer("WAIT", f"{self._wait_s():g}")
            asyncio.get_running_loop().call_soon(connection.tell, wait)

    def refusal(self, reason: str) -> bytes:
        """Return the answer that makes the wrapper record by itself."""
        return format_answer("NO", reason)

    def _administer(self, connection: Connection, word: str, arguments: list[str]) -> None:
        # Those who may record logins may not see or undo what others do.
        if word != "renew" and connection.uid not in (0, os.geteuid()):
            raise ValueError(f"user {connection.uid} is not root or the recorder's user")
        if connection.has_hung_up:
            # It was told that nobody answered. Logins may have come since, and those in the spool
            # are not its to remove; to write the next ones is right in any case.
            if word in ("status", "renew"):
                return
            word = "revoked"

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

        self._supervisor.start_request("control", administer())


# As Recording.not_recorded() takes it.
_HUNG_UP: Final = ("hung up", "its sender has hung up, and nothing says when the login was")


def _queued_s(connection: Connection, recording: Recording) -> float:
    """Return how long a request without a time, whose sender still waits, may have waited.

    Less than grace: the mailbox opens now, and its owner may relay.
    """
    return min(connection.queued_s, _LONGEST_WAIT_S, recording.grace_s / 2)


def _age_now_s(moment: tuple[bytes, int, int]) -> float:
    """Return how many seconds ago *moment* of a request was. Raise ValueError for the future."""
    passed_s = age_s(_stamp(*moment), _stamp(*read_clocks()))
    if passed_s is None:
        raise ValueError("a login in the future, by the clock of its sender")
    return passed_s


def _stamp(clock: bytes, boot_ns: int, wall_ns: int) -> Stamp:
    return Stamp(clock.decode("ascii"), boot_ns, wall_ns)


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


class PostLoginHandler:
    """Dovecot's own request (protocols/script_login.py); without a reply no mailbox opens."""

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
        return script_login.is_complete(received)

    def serve(self, connection: Connection, request: bytes) -> None:
        """Record the login and reply; in any case after reply_timeout. Raise ValueError."""
        asked = script_login.parse(request)
        if asked.master:
            connection.send(asked.reply)
            return
        queued_s = _queued_s(connection, self._recording)
        try:
            login = make_login(asked.remote, asked.user, self.service, queued_s)
        except ValueError as error:
            self._log.event("not_recorded", socket=self.name, error=error)
            connection.send(asked.reply)
            return
        if trouble := _no_login(connection, asked, login.address):
            self._recording.not_recorded(self.name, *trouble)
            connection.send(asked.reply)
            return
        late = _Late(connection, asked.reply, self._reply_timeout_s())
        self._recording.login(self.name, login, late.answer)

    def refusal(self, reason: str) -> bytes:
        """Return nothing: there is no such answer in this protocol."""
        return b""


def _no_login(
    connection: Connection, asked: script_login.Request, address: str
) -> tuple[str, str] | None:
    """Return why *asked* proves nothing about *address*, as Recording.not_recorded() takes it."""
    if connection.has_hung_up:
        return _HUNG_UP
    if asked.anonymous:
        return "anonymous", f"{address}: an anonymous login proves nothing"
    if _is_own(address, asked.local):
        return "ignored", f"{address} is the address of this server"
    return None


def _is_own(address: str, local: str) -> bool:
    """Tell whether canonical *address* is *local*, the server's end of the same connection."""
    try:
        return canonical_address(local) == address
    except ValueError:
        return False
