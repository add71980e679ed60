"""Peers of other users at the recorder's sockets, and what they cost it."""

import os
import pwd
import resource
import select
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.servers.recorder_place import PATIENCE_S, Recorder, read_all

# What sockets need that other users may connect to.
OPEN_TO_ALL = 'socket_mode = "0666"'
# Nothing is given up while a test holds the database: a commit may take a fifth of this.
LONGEST_WAITS = {
    "top": '[wrapper]\nwait = "50s"',
    "database": 'connect_timeout = "60s"',
    "recorder": f'{OPEN_TO_ALL}\nreply_timeout = "50s"',
}


# Five times what is and what may be configured.
_PATIENTLY = """
from popbsmtp_wrap.cli.main import main
from popbsmtp_wrap.recorder import pending_login
from popbsmtp_wrap.server import connections
pending_login._COMMIT_SHARE = 2.0
connections.SILENCE_S = 25.0
main()
"""


class PatientRecorder(Recorder):
    """A recorder that waits five times as long for silent peers, and for its database.

    A busy machine takes longer for the crowd of a test than a peer or a login is kept waiting.
    """

    def command(self) -> list[str]:
        return [sys.executable, "-c", _PATIENTLY, *super().command()[1:]]


def connect_as(user: str, path: Path) -> socket.socket:
    """Return a connection to *path*, which will be that of *user* for good (SO_PEERCRED)."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE_S)
    os.seteuid(pwd.getpwnam(user).pw_uid)
    try:
        # Not with a time-out: connect() would not wait for room in the queue.
        peer.setblocking(True)
        peer.connect(str(path))
    except BaseException:
        peer.close()
        raise
    finally:
        os.seteuid(0)
    peer.settimeout(PATIENCE_S)
    return peer


@contextmanager
def crowd(user: str, path: Path, count: int) -> Iterator[list[socket.socket]]:
    """Hold *count* connections of *user* to *path*."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    peers: list[socket.socket] = []
    try:
        while len(peers) < count:
            peers.append(connect_as(user, path))
        yield peers
    finally:
        for peer in peers:
            peer.close()


@contextmanager
def held_database(recorder: Recorder) -> Iterator[None]:
    """Let nobody write to a recorder's SQLite database."""
    connection = sqlite3.connect(recorder.store, isolation_level=None, timeout=PATIENCE_S)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        yield
    finally:
        connection.close()


def recorded(recorder: Recorder) -> set[str]:
    """Return the addresses in a recorder's SQLite database."""
    with closing(sqlite3.connect(recorder.store, timeout=PATIENCE_S)) as connection:
        return {address for (address,) in connection.execute("SELECT address FROM popbsmtp")}


def is_ended(peer: socket.socket) -> bool:
    """Tell whether the other side has closed a connection on which nothing was said."""
    # Not select(), which takes no descriptor beyond 1023.
    poll = select.poll()
    poll.register(peer, select.POLLIN)
    return bool(poll.poll(0)) and read_all(peer) == b""


def descriptor_count(recorder: Recorder) -> int:
    """Return how many descriptors the recorder has open when nobody asks anything."""
    counts = []
    for _ in range(5):
        # Whoever was answered last is not closed yet.
        time.sleep(0.01)
        counts.append(len(os.listdir(f"/proc/{recorder.pid}/fd")))
    return min(counts)


def most_memory_kb(recorder: Recorder) -> int:
    """Return the most memory that the recorder has had, in kB (VmHWM, proc(5))."""
    lines = Path(f"/proc/{recorder.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def cpu_s(recorder: Recorder) -> float:
    """Return the seconds of CPU that the recorder has had (utime and stime, proc(5))."""
    after_name = Path(f"/proc/{recorder.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
