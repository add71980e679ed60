"""Stops, continues and ends whole process trees.

Run as a program it watches its parent. One command per line on stdin:

    +PID START   watch this server (START: field 22 of /proc/PID/stat, to spare a reused pid)
    -PID         forget it
    rm PATH      remove this directory at the end

At end of file, however the parent died, what is still watched is killed.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from typing import NamedTuple


class Process(NamedTuple):
    """One line of /proc/PID/stat; see proc(5)."""

    pid: int
    state: str
    parent: int
    session: int
    start: int


def process(pid: int) -> Process | None:
    """Return the process, or None if there is none; a zombie still counts as one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


def alive(before: Process) -> bool:
    """Tell whether this very process, not a later one with its pid, exists and is no zombie."""
    now = process(before.pid)
    return now is not None and now.start == before.start and now.state not in "ZX"


def catches(one: Process, number: int) -> bool:
    """Tell whether the process has a handler for this signal; proc(5), SigCgt."""
    with (
        contextlib.suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{one.pid}/status") as status,
    ):
        for line in status:
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def tree(root: Process) -> list[Process]:
    """Return the living processes below *root*, itself first, as far as it still lives.

    A process belongs to the tree by its parent or by its session: PostgreSQL's children lead
    sessions of their own, and a daemon's orphans keep the session but lose the parent.
    """
    found = (process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    everyone = [p for p in found if p is not None]
    if any(p.pid == root.pid and p.start != root.start for p in everyone):
        # The kernel gives a pid away again only when its session has ended, too.
        return []
    members = {root.pid: root}
    size = 0
    while size < len(members):
        size = len(members)
        members |= {p.pid: p for p in everyone if p.parent in members or p.session in members}
    return sorted(
        (p for p in members.values() if alive(p)), key=lambda p: (p.pid != root.pid, p.start)
    )


def send(pid: int, number: int) -> None:
    """Signal the process if it still exists."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def stop_tree(root: Process) -> list[Process]:
    """Return the tree after SIGSTOP to all of it; repeats until nothing runs that could fork."""
    deadline = time.monotonic() + 5
    while True:
        members = [now for member in tree(root) if (now := process(member.pid))]
        running = [p for p in members if p.state not in "TtZX"]
        if not running or time.monotonic() > deadline:
            return members
        for member in running:
            send(member.pid, signal.SIGSTOP)
        time.sleep(0.001)


def continue_tree(root: Process) -> None:
    """Send SIGCONT to all of the tree."""
    for member in tree(root):
        send(member.pid, signal.SIGCONT)


def kill_tree(root: Process) -> None:
    """SIGKILL all of the tree; return when it is gone, or after 5 s."""
    victims = stop_tree(root)
    for victim in victims:
        send(victim.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while any(alive(victim) for victim in victims) and time.monotonic() < deadline:
        time.sleep(0.002)


def main() -> None:
    """Serve the protocol above until end of file."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    servers: dict[int, int] = {}
    directories: list[str] = []
    for line in sys.stdin:
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "rm":
            directories.append(rest)
        elif word.startswith("+"):
            servers[int(word[1:])] = int(rest)
        else:
            servers.pop(int(word[1:]), None)
    for pid, start in servers.items():
        kill_tree(Process(pid, "?", 0, pid, start))
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
