"""Logins without a pause: through a recorder's socket, or by processes with a connection each.

Towards the recorder one process has many connections in flight, and what Dovecot or popbsmtp-wrap
would do for each login is reduced to the connection itself: the load shares the machine with what
it measures.
"""

import multiprocessing
import os
import select
import time
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from bench.processes import cpu_s

_CONTEXT = multiprocessing.get_context("fork")
# Reserved since 1989 (RFC 1112) and in nobody's mynetworks.
_FIRST_ADDRESS: Final = int(IPv4Address("240.0.0.0"))
_ADDRESSES: Final = 1 << 27
# More than anything brings into a table in a minute.
ALLOTMENT: Final = 1 << 20
# Odd, so that no address comes twice; the next one is far away, as clients are.
_STEP: Final = 7919 * 7919
_LONGEST_ANSWER: Final = 4096
# The recorder answers within reply_timeout, 1 s.
_PATIENCE_S: Final = 30.0

# A client address in, the request and its answer out.
Talk = Callable[[str], tuple[bytes, bytes]]
Step = Callable[[str], None]


class Load(NamedTuple):
    """Seconds of each login, of all from the first to the last, and of CPU in who brings them."""

    seconds: Sequence[float]
    wall: float
    cpu: float

    @property
    def rate(self) -> float:
        """Logins per second."""
        return len(self.seconds) / self.wall


def addresses(first: int = 0) -> Iterator[str]:
    """Yield canonical client addresses, none of them twice, from the *first* one on."""
    for number in range(first, _ADDRESSES):
        value = _FIRST_ADDRESS + number * _STEP % _ADDRESSES
        yield f"{value >> 24}.{value >> 16 & 255}.{value >> 8 & 255}.{value & 255}"


def wrapper_talk(address: str) -> tuple[bytes, bytes]:
    """Return what popbsmtp-wrap says for a login from *address* (wire.py)."""
    return b"popbsmtp/1\t%s\talice@example.com\timap\n" % address.encode(), b"OK\n"


def postlogin_talk(address: str) -> tuple[bytes, bytes]:
    """Return what Dovecot says for a login from *address* (protocols/script_login.py)."""
    reply = (
        b"alice@example.com\thome=/var/mail/alice\tuid=5000\tgid=5000\tauth_mech=PLAIN"
        b"\tauth_token=0123456789abcdef0123456789abcdef01234567\n"
    )
    return b"VERSION\tscript-login\t1\t0\n192.0.2.1\t%s\t%s" % (address.encode(), reply), reply


def through_socket(
    path: str, talk: Talk, first: int, clients: int, duration_s: float, *, descriptor: bool
) -> Load:
    """Return what a process of its own gets from the recorder at *path* in *duration_s* seconds.

    *clients* connections are open all the time, each for one login; with *descriptor*, each sends
    one, as Dovecot sends the client's. Raise RuntimeError when an answer is wrong or missing.
    """
    (load,) = _in_processes([lambda: _ask_all(path, talk, first, clients, duration_s, descriptor)])
    return load


def by_processes(prepare: Callable[[], Step], firsts: Sequence[int], duration_s: float) -> Load:
    """Return what one process for each of *firsts* records with its step in *duration_s* seconds.

    Raise RuntimeError when one of them fails.
    """
    loads = _in_processes([partial(_step_on, prepare, first, duration_s) for first in firsts])
    seconds = [s for load in loads for s in load.seconds]
    return Load(seconds, max(load.wall for load in loads), sum(load.cpu for load in loads))


def _in_processes(works: Sequence[Callable[[], Load]]) -> list[Load]:
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in works]
    processes = [
        _CONTEXT.Process(target=lambda work=work, send=send: send.send(work()))
        for work, (_, send) in zip(works, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    for _, send in pipes:
        send.close()  # else the end of a process that fails would not be seen
    try:
        return [receive.recv() for receive, _ in pipes]
    except EOFError:
        raise RuntimeError("the load has failed") from None
    finally:
        for process in processes:
            process.join()


def _step_on(prepare: Callable[[], Step], first: int, duration_s: float) -> Load:
    step = prepare()
    seconds = array("d")
    clock = time.perf_counter
    source = addresses(first)
    cpu = cpu_s()
    now = started = clock()
    end = started + duration_s
    while now < end:
        began = now
        step(next(source))
        now = clock()
        seconds.append(now - began)
    return Load(seconds, now - started, cpu_s() - cpu)


def _ask_all(
    path: str, talk: Talk, first: int, clients: int, duration_s: float, descriptor: bool
) -> Load:
    epoll = select.epoll()
    waiting: dict[int, tuple[socket, bytes, float]] = {}
    seconds = array("d")
    clock = time.perf_counter
    null = os.open(os.devnull, os.O_RDONLY)
    ancillary = [(SOL_SOCKET, SCM_RIGHTS, array("i", [null]))] if descriptor else []
    source = addresses(first)
    cpu = cpu_s()
    started = clock()
    end = started + duration_s

    def ask() -> None:
        request, expected = talk(next(source))
        peer = socket(AF_UNIX, SOCK_STREAM)
        began = clock()
        peer.connect(path)
        peer.sendmsg([request], ancillary)
        waiting[peer.fileno()] = peer, expected, began
        epoll.register(peer, select.EPOLLIN)

    for _ in range(clients):
        ask()
    while waiting:
        events = epoll.poll(_PATIENCE_S, clients)
        if not events:
            raise RuntimeError(f"{len(waiting)} logins without an answer")
        for number, _ in events:
            peer, expected, began = waiting.pop(number)
            answer = peer.recv(_LONGEST_ANSWER)
            now = clock()
            if answer != expected:
                raise RuntimeError(f"answer {answer!r} instead of {expected!r}")
            seconds.append(now - began)
            peer.close()
            if now < end:
                ask()
    return Load(seconds, clock() - started, cpu_s() - cpu)
