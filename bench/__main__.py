"""python -m bench [MODULE...]: run the named measurements, by default all of them."""

import importlib
import sys
import time

from bench.databases import Servers
from bench.machine import description

MODULES = (
    "startup",
    "wrapper",
    "cold",
    "login_latency",
    "postlogin",
    "records",
    "recorder",
    "expire",
    "logs",
)


def main() -> int:
    """Print one table per module. Exit status 64 (EX_USAGE) for a module that is unknown."""
    names = sys.argv[1:] or MODULES
    if unknown := set(names) - set(MODULES):
        sys.stderr.write(f"bench: no {', '.join(sorted(unknown))}; known: {', '.join(MODULES)}\n")
        return 64
    print(description())
    started = time.monotonic()
    # All at once: the code may change during the run.
    modules = [importlib.import_module(f"bench.{name}") for name in names]
    with Servers() as servers:
        for module in modules:
            module.main(servers)
    print(f"\n{time.monotonic() - started:.0f} s in all")
    return 0


sys.exit(main())
