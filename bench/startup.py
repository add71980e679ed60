"""What imports cost on the login path: Python starts once per login."""

import sysconfig
from functools import partial

from bench.databases import Servers
from bench.figures import interleaved, median, ms, print_table
from bench.meter import Meter
from bench.programs import PROGRAM, WRAPPER, launcher_interpreter, login_environment
from tests.harness.machine import REPOSITORY

ROUNDS = 30
_EXEC = f"import posix; posix.execv({PROGRAM!r}, [{PROGRAM!r}])"


def main(servers: Servers) -> None:
    """Print what each import adds to `python3 -I -S` that only execs."""
    python = launcher_interpreter()
    site = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})"
    ours = f"{site}; sys.path.insert(0, {str(REPOSITORY)!r})"

    def importing(module: str, first: str = "pass") -> list[str]:
        return [python, "-I", "-S", "-c", f"{first}; import {module}; {_EXEC}"]

    commands = {
        "python3 -I -S, exec": [python, "-I", "-S", "-c", _EXEC],
        "the same of the system, no venv": ["/usr/bin/python3", "-I", "-S", "-c", _EXEC],
        "python3 -I (site packages), exec": [python, "-I", "-c", _EXEC],
        "+ import _socket": importing("_socket"),
        "+ import os": importing("os"),
        "+ import socket": importing("socket"),
        "+ import subprocess": importing("subprocess"),
        "popbsmtp-wrap, ignored address": [WRAPPER, PROGRAM],
        "+ import tomllib": importing("tomllib"),
        "+ import psycopg2": importing("psycopg2", site),
        "+ import pymysql": importing("pymysql", site),
        "+ import sqlalchemy": importing("sqlalchemy", site),
        "+ import asyncio": importing("asyncio"),
        "+ the configuration": importing("popbsmtp_wrap.config", ours),
        "+ all of the recorder": importing("popbsmtp_wrap.recorder.lingering", ours),
        "the same, no garbage collector": importing(
            "popbsmtp_wrap.recorder.lingering", f"import gc; gc.disable(); {ours}"
        ),
        "sh, exec": ["/bin/sh", "-c", f"exec {PROGRAM}"],
    }
    environment = login_environment("127.0.0.1")
    with Meter() as meter:
        costs = interleaved(
            {name: partial(meter.cost, argv, environment) for name, argv in commands.items()},
            ROUNDS,
        )
    base = costs["python3 -I -S, exec"]
    wall, cpu = median(c.wall for c in base), median(c.cpu for c in base)
    rows = [
        (
            name,
            (own_wall := median(c.wall for c in found)) / wall,
            (own_cpu := median(c.cpu for c in found)) / cpu,
            len(found),
            f"{ms(own_wall)} ms, CPU {ms(own_cpu)} ms",
        )
        for name, found in costs.items()
    ]
    header = ("process", "wall / exec", "CPU / exec", "n", "medians, for the record")
    print_table("startup: imports on the login path", header, rows)
