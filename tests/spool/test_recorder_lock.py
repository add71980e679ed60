"""The lock that keeps two recorders from using one spool."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from popbsmtp_wrap.errors import SpoolBusyError
from popbsmtp_wrap.spool.directory import hold

NOBODY = pwd.getpwnam("nobody")
HOLD_AS_NOBODY = f"""
import os, sys
from popbsmtp_wrap.errors import SpoolBusyError
from popbsmtp_wrap.spool.directory import hold
os.setgid({NOBODY.pw_gid})
os.setuid({NOBODY.pw_uid})
try:
    hold(".")
except SpoolBusyError as error:
    print(error)
else:
    print("held")
"""


def hold_as_nobody(spool: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", HOLD_AS_NOBODY],
        cwd=spool,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.strip()


def test_a_recorder_that_runs_as_another_user_does_not_start_beside_the_first(tmp_path):
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, NOBODY.pw_uid, NOBODY.pw_gid)
    before = os.umask(0o077)
    try:
        descriptor = hold(str(spool))
    finally:
        os.umask(before)
    assert "another recorder uses the spool" in hold_as_nobody(spool)
    with pytest.raises(SpoolBusyError, match="another recorder uses the spool"):
        hold(str(spool))
    os.close(descriptor)
    assert hold_as_nobody(spool) == "held"
