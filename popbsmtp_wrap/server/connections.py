"""Connections to the recorder's sockets: who may come in, how many, and for how long.

At most *capacity* are open. Beyond that the user who has most of those that have not asked yet
loses the oldest one; when all have asked, the next wait in the kernel's queue.

How long a peer may have waited there is known from when its queue was last seen empty: twice a
second while all goes well. After the process was stopped, or was not there yet, it may be longer.
"""

import asyncio
import contextlib
import math
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from typing import Final

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.server.connection import Connection, Handler

# struct ucred: pid, uid, gid (unix(7)).
_CREDENTIALS: Final = struct.Struct("3i")
# Who connects has its request ready; this is for a machine that swaps.
SILENCE_S: Final = 5.0
# How long the end waits for requests of peers that have connected. Dovecot tries for as long to
# connect to the next recorder.
_ASKING_S: Final = 1.0
# Requests have to fit in, and whoever sends a long one may not keep others out.
_MOST_RECEIVED: Final = 16 << 20
# So many at a time, then the others get their turn.
_ACCEPTS: Final = 64
_NO_ROOM_PAUSE_S: Final = 0.1
# How often the queues are looked at when nobody connects, and what a busy loop may add to that: so
# long a wait counts as none, otherwise a login right after a revoke would seem to be before it.
_LOOK_S: Final = 0.5
_PROMPT_S: Final = 1.0


class Connections:
    """All connections of the recorder."""

    def __init__(
        self,
        capacity: int,
        allowed: Collection[int],
        log: EventLog,
        counts: Counts,
        *,
        looks_at_queues: bool = True,
    ) -> None:
        """Serve at most *capacity* peers at once, those whose user is in *allowed*.

        With *looks_at_queues* False the process sleeps until somebody connects; how long a peer may
        have waited is then known from the last one before it.
        """
        self.allowed = allowed
        self.log = log
        self.counts = counts
        self.received = 0
        self._capacity = capacity
        self._open: set[Connection] = set()
        # Those that owe us something, oldest first, by user.
        self._owing: defaultdict[int, dict[Connection, None]] = defaultdict(dict)
        self._handlers: dict[socket.socket, Handler] = {}
        # When the queue of a listener was last seen empty, on the monotonic clock.
        self._empty: dict[socket.socket, float] = {}
        self._looks_at_queues = looks_at_queues
        self._look: asyncio.TimerHandle | None = None
        # Called when those who stood in the queue have had their turn.
        self.after_some: Callable[[], None] = lambda: None
        self._paused = False
        self._sweep: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def listen(
        self, listener: socket.socket, handler: Handler, empty_at: float = -math.inf
    ) -> None:
        """Accept peers from *listener* for *handler*; nobody waited there at *empty_at*."""
        listener.setblocking(False)
        self._handlers[listener] = handler
        self._empty.setdefault(listener, empty_at)
        if not self._paused:
            asyncio.get_running_loop().add_reader(listener, self._accept_some, listener)
        if self._looks_at_queues and self._look is None:
            self._look = asyncio.get_running_loop().call_soon(self._look_at_queues)  # type: ignore[assignment]  # either can be cancelled

    def stop_listening(self, listener: socket.socket) -> None:
        """Accept no more peers from *listener*."""
        asyncio.get_running_loop().remove_reader(listener)
        self._handlers.pop(listener, None)
        self._empty.pop(listener, None)

    def accept_rest(self, listener: socket.socket) -> None:
        """Accept the peers in the queue of *listener*, and no new ones."""
        handler, empty_at = self._handlers[listener], self._empty[listener]
        self.stop_listening(listener)
        # From now on the kernel refuses connections and still gives out those in the queue.
        listener.shutdown(socket.SHUT_RD)
        while self._has_room():
            try:
                peer, _ = listener.accept()
            except ConnectionError:
                continue
            except OSError:
                break
            self._admit(peer, handler, empty_at)

    def _look_at_queues(self) -> None:
        """Accept peers that the loop has not seen yet, and know which queues are empty."""
        for listener in list(self._handlers):
            if not self._paused:
                self._accept_some(listener)
        if self._handlers:
            self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_at_queues)
        else:
            self._look = None

    def _accept_some(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            if not self._has_room():
                self._pause()
                return
            try:
                peer, _ = listener.accept()
            except BlockingIOError:
                self._empty[listener] = time.monotonic()
                break
            except ConnectionError:
                break
            except OSError as error:
                self.log.event("accept_failed", error=error)
                self._pause(_NO_ROOM_PAUSE_S)
                return
            self._admit(peer, self._handlers[listener], self._empty[listener])
        self.after_some()

    def _admit(self, peer: socket.socket, handler: Handler, empty_at: float) -> None:
        try:
            self._let_in(peer, handler, empty_at)
        except Exception as error:  # noqa: BLE001 - it costs this connection only
            self.log.unexpected(handler.name, error)
            peer.close()

    def _let_in(self, peer: socket.socket, handler: Handler, empty_at: float) -> None:
        peer.setblocking(False)
        _, uid, _ = _CREDENTIALS.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in self.allowed:
            self.log.event("peer_refused", socket=handler.name, uid=uid)
            self.counts.dropped["refused"] += 1
            with contextlib.suppress(OSError):
                peer.send(handler.refusal(f"user {uid} may not record logins, see recorder.users"))
            peer.close()
            return
        self._make_room()
        queued_s = time.monotonic() - empty_at
        connection = Connection(self, peer, uid, handler, queued_s if queued_s > _PROMPT_S else 0.0)
        self._open.add(connection)
        connection.start()
        if connection.is_open and not connection.asked:
            self._owes(connection)

    def _has_room(self) -> bool:
        """Tell whether one more may come, if somebody has to go for it."""
        return len(self._open) < self._capacity or bool(self._owing)

    def _make_room(self) -> None:
        """Close the oldest connection of the user who has most of those that owe us something."""
        if len(self._open) >= self._capacity:
            uid = max(self._owing, key=lambda uid: len(self._owing[uid]))
            self.close(next(iter(self._owing[uid])), "no room")

    def bound_received(self) -> None:
        """Close connections of the user with the most unread data until all of it fits."""
        while self.received > _MOST_RECEIVED:
            user = max(self._owing.values(), key=lambda owing: sum(c.unasked for c in owing))
            self.close(next(c for c in user if c.unasked), "no room")

    def _pause(self, pause_s: float | None = None) -> None:
        """Leave peers in the kernel's queue until a connection ends, or for *pause_s*."""
        loop = asyncio.get_running_loop()
        self._paused = True
        for listener in self._handlers:
            loop.remove_reader(listener)
        if pause_s is not None:
            loop.call_later(pause_s, self._go_on)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            for listener, handler in list(self._handlers.items()):
                self.listen(listener, handler)

    def _owes(self, connection: Connection) -> None:
        self._owing[connection.uid][connection] = None
        if self._sweep is None:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(SILENCE_S / 5, self._close_silent)

    def is_sending(self, connection: Connection) -> None:
        """Expect *connection* to take its answer."""
        self._owes(connection)

    def has_asked(self, connection: Connection) -> None:
        """Owe *connection* an answer."""
        owing = self._owing[connection.uid]
        owing.pop(connection, None)
        if not owing:
            del self._owing[connection.uid]

    def _close_silent(self) -> None:
        """Close those that owe us something for too long."""
        self._sweep = None
        latest = time.monotonic() - SILENCE_S
        for owing in list(self._owing.values()):
            for connection in [c for c in owing if c.began < latest]:
                self.close(connection, "silent")
        if self._owing:
            loop = asyncio.get_running_loop()
            self._sweep = loop.call_later(SILENCE_S / 5, self._close_silent)

    def close(self, connection: Connection, why: str | None = None) -> None:
        """End *connection*; *why* is logged where it is the peer's fault."""
        if connection not in self._open:
            return
        if why is not None:
            self.counts.dropped[why] += 1
            self.log.event(
                "connection_dropped", socket=connection.handler.name, uid=connection.uid, why=why
            )
        self._open.remove(connection)
        self.has_asked(connection)
        self.received -= connection.close()
        self._go_on()

    async def finish(self, patience_s: float) -> None:
        """Wait until all have their answers, at most *patience_s* seconds, and close the rest.

        Peers that have just connected are about to ask: Dovecot connects and sends in two calls.
        """
        began = time.monotonic()
        asking_until = began + min(patience_s, _ASKING_S)
        while (now := time.monotonic()) < began + patience_s:
            if not any(c.asked or now < asking_until for c in self._open):
                break
            await asyncio.sleep(0.01)
        for connection in list(self._open):
            self.close(connection)
