"""make chaos: rounds of faults until the time is up, or a promise is broken.

    python -m tests.chaos [--seconds N] [--seed N] [--database KIND|all] [--faults NAME,...]

Each round has a seed of its own, which repeats it. Exit status 1 at the first violation.
"""

import argparse
import random
import sys
import time

from tests.chaos.databases import KINDS
from tests.chaos.private import leave_the_host
from tests.chaos.run import run

# Long enough for every fault to come once or twice, and short enough to read.
ROUND_S = 60.0


def main() -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--database", choices=(*KINDS, "all"), default="all")
    parser.add_argument("--faults", default="")
    asked = parser.parse_args()
    leave_the_host()
    kinds = KINDS if asked.database == "all" else (asked.database,)
    names = tuple(filter(None, asked.faults.split(",")))
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    status = 0
    for kind in kinds:
        deadline, number = time.monotonic() + asked.seconds, seed
        while status == 0 or number == seed:
            left_s = deadline - time.monotonic()
            report = run(kind, number, max(1.0, min(ROUND_S, left_s)), names)
            print(report.text(), flush=True)  # noqa: T201 - the result
            status |= bool(report.violations)
            number += 1
            if report.violations or time.monotonic() > deadline:
                break
    return status


if __name__ == "__main__":
    sys.exit(main())
