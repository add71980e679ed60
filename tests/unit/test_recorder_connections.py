"""Connections to the recorder: partial answers, silent peers, and who has to go."""

import asyncio
import os
import socket
import time
from contextlib import suppress

import pytest

from popbsmtp_wrap.daemon.event_log import EventLog
from popbsmtp_wrap.daemon.metrics import Counts
from popbsmtp_wrap.server import connections
from popbsmtp_wrap.server.connections import Connections

LONGEST = 4096
# The kernel makes 4608 of it (SOCK_MIN_SNDBUF, include/net/sock.h).
SMALL_BUFFER = 1
SILENCE_S = 0.5
PATIENCE_S = 10.0


class LineHandler:
    """A line each way; the answer is *answer* at once, or what the test sends later."""

    name = "test"

    def __init__(self, answer=None):
        self.answer = answer
        self.served = []

    def is_complete(self, received):
        return b"\n" in received or len(received) > LONGEST

    def serve(self, connection, request):
        if request == b"impossible\n":
            raise KeyError(request)
        self.served.append((request, connection))
        if self.answer is not None:
            # A peer cannot choose it, and 208 kB take every answer whole (net.core.wmem_default).
            connection._peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
            connection.send(self.answer)

    def refusal(self, reason):
        return b"refused\n"


class Peers:
    """Connections to one handler, listening at a path."""

    def __init__(self, path, handler, *, capacity=10, allowed=None):
        self.path = str(path)
        self.handler = handler
        self.counts = Counts()
        users = {os.geteuid()} if allowed is None else allowed
        self.connections = Connections(capacity, users, EventLog("stderr"), self.counts)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(100)
        self.connections.listen(self.listener, handler)
        self._peers = []

    async def connect(self, data=b""):
        """A peer that has sent *data*, once the peers has seen it or has no room for it."""
        peer = socket.socket(socket.AF_UNIX)
        self._peers.append(peer)
        peer.setblocking(False)
        peer.connect(self.path)
        if data:
            peer.send(data)
        await asyncio.sleep(0.02)
        return peer

    def close(self):
        self.connections.stop_listening(self.listener)
        for one in (*self._peers, self.listener):
            one.close()

    def requests(self):
        return [request for request, _ in self.handler.served]


@pytest.fixture
def peers(tmp_path):
    """Return what runs a test with a Peers in an event loop."""

    def run(test, handler, **options):
        async def main():
            peers = Peers(tmp_path / "socket", handler, **options)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await test(peers)
            finally:
                peers.close()
                await peers.connections.finish(0)
            assert len(peers.connections) == 0

        asyncio.run(main())

    return run


async def rest(peer, size=65536):
    """All that comes until the end."""
    loop, received = asyncio.get_running_loop(), b""
    with suppress(ConnectionError):
        while data := await loop.sock_recv(peer, size):
            received += data
    return received


async def until(condition):
    while not condition():  # noqa: ASYNC110 - what is asked has no events
        await asyncio.sleep(0.01)


def test_an_answer_larger_than_the_socket_takes_reaches_a_slow_reader_whole(peers):
    answer = bytes(range(256)) * 4096

    async def test(peers):
        peer = await peers.connect(b"please\n")
        assert len(peers.connections) == 1
        assert await rest(peer, 10_000) == answer
        assert peers.counts.dropped == {}

    peers(test, LineHandler(answer))


def test_a_second_answer_does_not_get_into_the_first(peers):
    async def test(peers):
        peer = await peers.connect(b"please\n")
        peers.handler.served[0][1].send(b"late\n")
        assert await rest(peer) == bytes(1 << 20)

    peers(test, LineHandler(bytes(1 << 20)))


def test_a_peer_that_does_not_read_is_dropped_as_silent(peers, monkeypatch):
    monkeypatch.setattr(connections, "SILENCE_S", SILENCE_S)

    async def test(peers):
        begun = time.monotonic()
        peer = await peers.connect(b"please\n")
        await until(lambda: len(peers.connections) == 0)
        assert time.monotonic() - begun >= SILENCE_S
        assert peers.counts.dropped == {"silent": 1}
        assert 0 < len(await rest(peer)) < 1 << 20

    peers(test, LineHandler(bytes(1 << 20)))


def test_a_peer_that_leaves_in_the_middle_of_its_answer_makes_room(peers):
    async def test(peers):
        peer = await peers.connect(b"please\n")
        peer.close()
        await until(lambda: len(peers.connections) == 0)
        assert peers.counts.dropped == {}

    peers(test, LineHandler(bytes(1 << 20)))


def test_peers_that_say_nothing_or_half_are_silent_and_those_that_wait_are_not(peers, monkeypatch):
    monkeypatch.setattr(connections, "SILENCE_S", SILENCE_S)

    async def test(peers):
        silent, half, waiting = [await peers.connect(d) for d in (b"", b"pl", b"please\n")]
        await until(lambda: peers.counts.dropped["silent"] == 2)
        assert await rest(silent) == await rest(half) == b""
        await asyncio.sleep(2 * SILENCE_S)
        peers.handler.served[0][1].send(b"here\n")
        assert await rest(waiting) == b"here\n"
        assert peers.connections.received == 0

    peers(test, LineHandler())


def test_at_capacity_the_oldest_that_has_not_asked_goes(peers):
    async def test(peers):
        first = await peers.connect(b"first\n")
        second, third = await peers.connect(), await peers.connect(b"thi")
        fourth = await peers.connect(b"fourth\n")
        assert await rest(second) == b""
        assert peers.counts.dropped == {"no room": 1}
        fifth = await peers.connect(b"fifth\n")
        assert await rest(third) == b""
        assert peers.counts.dropped == {"no room": 2}
        assert peers.requests() == [b"first\n", b"fourth\n", b"fifth\n"]
        for (request, connection), peer in zip(
            peers.handler.served, (first, fourth, fifth), strict=True
        ):
            connection.send(request)
            assert await rest(peer) == request

    peers(test, LineHandler(), capacity=3)


def test_what_has_come_of_incomplete_requests_is_bounded(peers, monkeypatch):
    monkeypatch.setattr(connections, "_MOST_RECEIVED", 10_000)

    async def test(peers):
        silent = await peers.connect()
        first, second, third = [await peers.connect(bytes(3000)) for _ in range(3)]
        assert peers.connections.received == 9000
        second.send(bytes(1000))
        await asyncio.sleep(0.02)
        assert peers.counts.dropped == {}
        third.send(bytes(1))
        assert await rest(first) == b""
        assert peers.connections.received == 7001
        assert peers.counts.dropped == {"no room": 1}
        for peer, request in ((silent, b"1\n"), (second, b"2\n"), (third, b"3\n")):
            peer.send(request)
        await until(lambda: len(peers.handler.served) == 3)
        assert peers.connections.received == 0

    peers(test, LineHandler())


def test_at_capacity_where_all_have_asked_the_next_is_served_when_one_has_its_answer(peers):
    async def test(peers):
        await peers.connect(b"1\n")
        await peers.connect(b"2\n")
        late = [await peers.connect(b"%d\n" % number) for number in (3, 4)]
        assert peers.requests() == [b"1\n", b"2\n"]
        peers.handler.served[0][1].send(b"done\n")
        await until(lambda: len(peers.handler.served) == 3)
        assert len(peers.connections) == 2
        peers.handler.served[1][1].send(b"done\n")
        await until(lambda: len(peers.handler.served) == 4)
        for (_, connection), peer in zip(peers.handler.served[2:], late, strict=True):
            connection.send(b"done\n")
            assert await rest(peer) == b"done\n"
        assert peers.counts.dropped == {}

    peers(test, LineHandler(), capacity=2)


def test_a_peer_that_leaves_while_it_waits_makes_room_and_its_answer_goes_nowhere(peers):
    async def test(peers):
        peer = await peers.connect(b"1\n")
        await peers.connect(b"2\n")
        assert peers.requests() == [b"1\n"]
        peer.close()
        await until(lambda: peers.requests() == [b"1\n", b"2\n"])
        left = peers.handler.served[0][1]
        assert not left.is_open
        left.send(b"done\n")
        assert len(peers.connections) == 1

    peers(test, LineHandler(), capacity=1)


def test_a_surprise_costs_one_connection(peers):
    async def test(peers):
        waiting = await peers.connect(b"please\n")
        assert await rest(await peers.connect(b"impossible\n")) == b""
        peers.handler.served[0][1].send(b"here\n")
        assert await rest(waiting) == b"here\n"
        assert peers.counts.dropped == {"unexpected": 1}

    peers(test, LineHandler())


@pytest.mark.parametrize("method", ["is_complete", "serve"])
def test_whatever_a_connection_raises_costs_itself(peers, monkeypatch, method):
    async def test(peers):
        before = getattr(LineHandler, method)

        def broken(handler, *arguments):
            if b"bad\n" in arguments:
                raise KeyError(method)
            return before(handler, *arguments)

        monkeypatch.setattr(LineHandler, method, broken)
        at_once = await peers.connect(b"bad\n")
        later = await peers.connect(b"ba")
        later.send(b"d\n")
        assert await rest(at_once) == await rest(later) == b""
        good = await peers.connect(b"good\n")
        peers.handler.served[-1][1].send(b"here\n")
        assert await rest(good) == b"here\n"
        assert peers.counts.dropped == {"unexpected": 2}

    peers(test, LineHandler())


def test_a_peer_that_cannot_be_admitted_costs_itself(peers):
    async def test(peers):
        peers.connections.allowed = None  # "in" raises TypeError
        assert await rest(await peers.connect(b"please\n")) == b""
        peers.connections.allowed = {os.geteuid()}
        await peers.connect(b"please\n")
        assert peers.requests() == [b"please\n"]

    peers(test, LineHandler())


def test_a_user_who_is_not_allowed_is_told_and_takes_no_room(peers):
    async def test(peers):
        await peers.connect(b"please\n")
        for _ in range(10):
            assert await rest(await peers.connect(b"please\n")) == b"refused\n"
        assert peers.requests() == []
        assert peers.counts.dropped == {"refused": 11}
        peers.connections.allowed = {os.geteuid()}
        await peers.connect(b"please\n")
        assert peers.requests() == [b"please\n"]

    peers(test, LineHandler(), capacity=1, allowed=())
