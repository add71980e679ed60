"""A watcher whose own code fails."""

import sys
from datetime import UTC, datetime

import pytest

from tests.harness.directories import write
from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder, fields
from tests.servers.watch_place import Watch

# Runs `popbsmtp` with one method of the watcher replaced.
BROKEN = """\
import sys
sys.argv[0] = "popbsmtp"
from popbsmtp_wrap.watch.service import WatchService
{patch}
from popbsmtp_wrap.cli.main import main
main()
"""
A_JOB = """\
async def broken(self):
    raise KeyError("a job")
WatchService._saving = broken
"""
# Whatever is wrong with the way to a file, it is not silently left alone.
A_FILE = """\
async def broken(self, path):
    raise KeyError("a file")
WatchService._follow_file = broken
"""
# The first look at a file raises; the watcher goes on with it.
A_LOOK = """\
from popbsmtp_wrap.logs.tail import Tail
look = Tail.look
def broken(self):
    Tail.look = look
    raise KeyError("a look")
Tail.look = broken
"""


class BrokenWatch(Watch):
    """A watcher with a bug."""

    def __init__(self, recorder, patch):
        super().__init__(recorder)
        self._program = write(self.home / "broken.py", BROKEN.format(patch=patch))

    def command(self):
        return [sys.executable, str(self._program), *super().command()[1:]]

    def is_ready(self):
        return True


@pytest.fixture
def recorder():
    with Recorder() as running:
        yield running


@pytest.mark.parametrize(("patch", "what"), [(A_JOB, "a job"), (A_FILE, "a file")])
def test_a_job_that_fails_ends_the_watcher_for_its_service_manager(recorder, patch, what):
    watch = BrokenWatch(recorder, patch)
    watch.log.touch()
    with watch:
        watch.wait_for_end()
        assert watch.exit_status == 70
        *lines, last = watch.log_text().splitlines()
        event = next(e for e in map(fields, lines) if e["event"] == "unexpected")
        assert event["error"] == f"KeyError('{what}')"
        assert "in broken" in event["traceback"]
        assert last.startswith("popbsmtp: a job of the watcher has failed")


def test_a_look_at_a_file_that_fails_costs_a_moment(recorder):
    watch = BrokenWatch(recorder, A_LOOK)
    watch.log.touch()
    with watch:
        watch.wait_for_event("unexpected")
        stamp = f"{datetime.now(UTC):%b %e %H:%M:%S}"
        with watch.log.open("a") as log:
            log.write(
                f"{stamp} host dovecot: imap-login: Login: user=<alice>, method=PLAIN,"
                " rip=198.51.100.7, lip=192.0.2.1, mpid=1, session=<x>\n"
            )
        wait_until(lambda: "198.51.100.7" in recorder.rows(), PATIENCE_S, "the login")
        assert watch.events("unexpected")[0]["what"] == str(watch.log)
