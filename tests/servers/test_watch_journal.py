"""popbsmtp watch and the journal; a program that prints entries stands in for journalctl."""

import json
import re
import time

import pytest

from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import Watch, append, dovecot, rows
from tests.unit.test_journal_entries import FIELDS, LOGIN

# Prints a file, and with --follow what comes into it; notes how it was called.
STAND_IN = """#!/bin/sh
echo "$*" >> {home}/calls
case "$*" in
*--follow*) exec tail -n +1 -f {home}/entries ;;
esac
exec cat {home}/entries
"""


class JournalWatch(Watch):
    """A watcher whose journalctl is a program in home/bin."""

    def prepare(self):
        (self.home / "bin").mkdir()
        program = self.home / "bin" / "journalctl"
        program.write_text(STAND_IN.format(home=self.home))
        program.chmod(0o755)
        self.entries = self.home / "entries"
        self.entries.touch()

    def command(self):
        return ["/usr/bin/env", f"PATH={self.home}/bin:/usr/bin:/bin", *super().command()]

    def calls(self):
        return (self.home / "calls").read_text().splitlines()

    def journal(self, address, cursor, ago_s=0.0, **changes):
        fields = {
            "__CURSOR": cursor,
            "__REALTIME_TIMESTAMP": f"{(time.time() - ago_s) * 1e6:.0f}",
            "MESSAGE": LOGIN.replace("198.51.100.7", address),
        }
        append(self.entries, json.dumps(FIELDS | fields | changes))


@pytest.fixture
def watch():
    with (
        Recorder(top="watch = { journal = true, files = [] }") as recorder,
        JournalWatch(recorder, log=False) as made,
    ):
        yield made


def test_the_journal_counts_only_from_the_servers_own_unit_and_goes_on_where_it_was(watch):
    watch.journal("198.51.100.1", "s=1")
    watch.journal("198.51.100.2", "s=2", ago_s=1900)
    watch.journal("198.51.100.3", "s=3", _SYSTEMD_UNIT="user@1000.service")
    watch.journal("198.51.100.4", "s=4", _SYSTEMD_UNIT="courier-imap.service")
    watch.journal("198.51.100.5", "s=5", _EXE=None)
    append(watch.entries, "no entry", dovecot("198.51.100.6"))
    watch.journal("198.51.100.7", "s=7", ago_s=60)
    watch.wait_for_rows({"198.51.100.1", "198.51.100.7"})
    assert set(rows(watch.recorder)) == {"198.51.100.1", "198.51.100.7"}
    assert rows(watch.recorder)["198.51.100.7"] <= time.time() - 60
    wait_until(lambda: len(watch.calls()) == 2, PATIENCE_S, "journalctl --follow")
    watch.stop()
    assert watch.exit_status == 0
    watch.start()
    watch.journal("198.51.100.8", "s=8")
    watch.wait_for_rows({"198.51.100.8"})
    calls = watch.calls()
    assert "--follow" not in calls[0]
    assert "--since=@" in calls[0]
    assert "--follow" in calls[1]
    # Behind what was done with, first whatever came before the machine's start, then what comes.
    for call in calls[2:]:
        assert re.search(r"--after-cursor=s=[78] _SYSTEMD_UNIT=dovecot\.service ", call)
    assert "--after-cursor=s=7" in calls[2]
    assert "--follow" not in calls[2]
