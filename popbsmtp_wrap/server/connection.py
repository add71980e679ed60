"""One connection to the recorder: a request, its answer, the end."""

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts

_READ: Final = 4096


class Owner(Protocol):
    """Where connections live (connections.py)."""

    log: EventLog
    counts: Counts
    # Bytes of requests that are not complete.
    received: int

    def bound_received(self) -> None:
        """Close connections until the data received so far fits into memory."""

    def has_asked(self, connection: "Connection") -> None:
        """Owe *connection* an answer."""

    def is_sending(self, connection: "Connection") -> None:
        """Expect *connection* to take its answer."""

    def close(self, connection: "Connection", why: str | None = None) -> None:
        """End *connection*; *why* is logged where it is the peer's fault."""


class Handler(Protocol):
    """What is spoken on a listening socket."""

    name: str

    def is_complete(self, received: bytes) -> bool:
        """Tell whether *received* is a whole request, or too much for one."""

    def serve(self, connection: "Connection", request: bytes) -> None:
        """Have *connection* answered, now or later. Raise ValueError for what is no request."""

    def refusal(self, reason: str) -> bytes:
        """Return what to tell a peer that is not served."""


class Connection:
    """One peer: first its request, then our answer, then the end."""

    def __init__(
        self, owner: Owner, peer: socket.socket, uid: int, handler: Handler, queued_s: float = 0.0
    ) -> None:
        """*queued_s* is how long *peer* may have waited in the listen queue."""
        self.uid = uid
        self.queued_s = queued_s
        self.handler = handler
        self.began = time.monotonic()
        self.asked = False
        self._owner = owner
        self._peer = peer
        # asyncio looks a socket up by an error that describes it, four calls to the kernel each.
        self._descriptor = peer.fileno()
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._rest = b""

    @property
    def is_open(self) -> bool:
        """Tell whether anybody can still hear an answer."""
        return self._peer.fileno() >= 0

    @property
    def has_hung_up(self) -> bool:
        """Tell whether the peer has closed its end: nobody waits for the answer any more."""
        if not self.is_open:
            return True
        poll = select.poll()
        # POLLHUP is reported whatever is asked for. A peer that only ended its sending still waits.
        poll.register(self._descriptor, 0)
        return bool(poll.poll(0))

    @property
    def unasked(self) -> int:
        """The bytes that have come of a request that is not complete."""
        return len(self._received)

    def start(self) -> None:
        """Read the request: usually all of it is there already; otherwise wait for the rest."""
        self._guarded(self.readable)
        if self.is_open:
            # Behind the commit, when it is done at once: most need no watching at all.
            self._loop.call_soon(self._watch)

    def _watch(self) -> None:
        if self.is_open:
            self._loop.add_reader(self._descriptor, self._guarded, self.readable)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Take a *step*; whatever it raises costs this connection only."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the others go on
            self._owner.log.unexpected(self.handler.name, error)
            self.close_unexpected()

    def readable(self) -> None:
        """Read what the peer has sent."""
        try:
            # Without room for control messages the kernel closes descriptors that come along.
            data = self._peer.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._owner.close(self, None if self.asked or not self._received else "incomplete")
        elif self.asked:
            self._owner.close(self, "more after the request")
        else:
            self._received += data
            self._owner.received += len(data)
            if self.handler.is_complete(self._received):
                self._ask()
            else:
                self._owner.bound_received()

    def _ask(self) -> None:
        self.asked = True
        self._owner.has_asked(self)
        request, self._received = self._received, b""
        self._owner.received -= len(request)
        try:
            self.handler.serve(self, request)
        except ValueError as error:
            self.refuse(str(error))

    def refuse(self, reason: str) -> None:
        """Refuse an invalid request and close."""
        self._owner.log.event("bad_request", socket=self.handler.name, uid=self.uid, error=reason)
        self._owner.counts.dropped["bad request"] += 1
        self.send(self.handler.refusal(reason))

    def close_unexpected(self) -> None:
        """End the connection without an answer: serving it has raised an exception."""
        self._owner.close(self, "unexpected")

    def tell(self, line: bytes) -> None:
        """Send *line* before the answer; it is lost where the peer has gone."""
        if self.is_open and not self._rest:
            with contextlib.suppress(OSError):
                self._peer.send(line)

    def send(self, answer: bytes) -> None:
        """Send *answer* and close; nothing happens when the peer has gone."""
        if not self.is_open or self._rest:
            return
        self._rest = answer
        self._guarded(self._send_rest)

    def _send_rest(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[self._peer.send(self._rest) :]
        except BlockingIOError:
            self.began = time.monotonic()
            self._owner.is_sending(self)
            self._loop.add_writer(self._descriptor, self._guarded, self._send_rest)
            return
        except OSError:
            pass  # it has gone
        self._owner.close(self)

    def close(self) -> int:
        """Close the socket; return how many bytes had come in vain. The owner calls this."""
        self._loop.remove_reader(self._descriptor)
        self._loop.remove_writer(self._descriptor)
        self._peer.close()
        count, self._received = len(self._received), b""
        return count
