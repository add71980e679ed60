"""A short run with a fixed seed on each database; `make chaos` goes on from there."""

import subprocess
import sys

import pytest

from tests.chaos.databases import KINDS

# Settling and healing included; a machine with ten busy processes needs far longer than 20 s.
_LONGEST_S = 600


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_promises_hold_while_everything_breaks(kind):
    # A process of its own: it has a network and mounts that end with it.
    words = ["-m", "tests.chaos", "--seconds", "20", "--seed", "7", "--database", kind]
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, timeout=_LONGEST_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no violation" in done.stdout
