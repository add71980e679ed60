"""The machine in one line."""

import os
import platform
import re
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

# Program and its version option; the first number that it prints is the version.
_SERVERS = {
    "Dovecot": ["/usr/sbin/dovecot", "--version"],
    "PostgreSQL": ["/usr/bin/psql", "--version"],
    "MariaDB": ["/usr/sbin/mariadbd", "--version"],
}
_PACKAGES = ("SQLAlchemy", "psycopg2-binary", "PyMySQL")


def description() -> str:
    """Return processor, cores, load, and the versions of what is measured."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("ascii"))
    parts = [
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores",
        f"load {os.getloadavg()[0]:.1f}",
        f"Linux {platform.release()}",
        f"Python {platform.python_version()}",
        *(f"{name} {_version(argv)}" for name, argv in _SERVERS.items()),
        f"SQLite {sqlite3.sqlite_version}",
        *(f"{name} {metadata.version(name)}" for name in _PACKAGES),
    ]
    return ", ".join(parts)


def _version(argv: list[str]) -> str:
    output = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", output)
    return found[0] if found else "?"
