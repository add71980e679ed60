"""The machine in one line."""

import os
import platform
import re
import sqlite3
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path

from bench.figures import median, ms

# Program and its version option; the first number that it prints is the version.
_SERVERS = {
    "Dovecot": ["/usr/sbin/dovecot", "--version"],
    "PostgreSQL": ["/usr/bin/psql", "--version"],
    "MariaDB": ["/usr/sbin/mariadbd", "--version"],
}
_PACKAGES = ("SQLAlchemy", "psycopg2-binary", "PyMySQL")
# What a database writes for a small commit.
_BLOCK = bytes(8192)
_FLUSHES = 50


def description() -> str:
    """Return processor, cores, load, disk, and the versions of what is measured."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("ascii"))
    parts = [
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        f"load {os.getloadavg()[0]:.1f}",
        f"disk flush {ms(flush_s())} ms",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *(f"{name} {_version(argv)}" for name, argv in _SERVERS.items()),
        f"SQLite {sqlite3.sqlite_version}",
        *(f"{name} {metadata.version(name)}" for name in _PACKAGES),
    ]
    return ", ".join(parts)


def flush_s() -> float:
    """Return the median seconds of fdatasync(2) where the servers have their data."""
    seconds = []
    with tempfile.TemporaryFile(dir="/tmp") as file:
        for _ in range(_FLUSHES):
            os.pwrite(file.fileno(), _BLOCK, 0)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return median(seconds)


def _version(argv: list[str]) -> str:
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", output)
    return found[0] if found else "?"
