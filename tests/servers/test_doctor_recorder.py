"""popbsmtp doctor beside popbsmtp serve."""

import signal
import subprocess

import pytest

from tests.harness.directories import give
from tests.servers.doctor_site import Site
from tests.servers.wrap_fixtures import POPBSMTP

START = "run: systemctl status popbsmtp, or start popbsmtp serve"
SOCKETS = ("login.sock", "imap-postlogin", "pop3-postlogin")


@pytest.fixture
def site():
    made = Site(mode="socket")
    give(made.folder / "db", "dovecot:postfix", mode=0o2770)
    give(made.database, "dovecot:postfix", mode=0o660)
    made.recorder = subprocess.Popen(
        [POPBSMTP, "-c", made.config, "serve"], stderr=subprocess.PIPE, text=True
    )
    lines = iter(made.recorder.stderr.readline, "")
    assert any("started" in line for line in lines)
    yield made
    made.recorder.kill()
    made.recorder.wait()
    made.recorder.stderr.close()


def test_dovecot_and_its_recorder_are_ok_from_end_to_end(site):
    status, lines = site.doctor()
    assert status == 0
    for name in SOCKETS:
        assert f"ok    {site.sockets}/{name} answers a login" in lines
    assert f"ok    spool {site.folder}/spool is right, and nothing waits" in lines
    assert {line.split()[0] for line in lines} == {"ok"}
    assert site.run("list", "--json").stdout.split() == ["[]"]


def test_recorder_that_hangs_is_found(site):
    # By now it has opened SQLite's file: halted while it does, it would keep everybody out.
    assert site.doctor()[0] == 0
    site.recorder.send_signal(signal.SIGSTOP)
    assert site.wrong() == [
        f"FAIL  {site.sockets}/{name}: no answer within 1.1 s; {START}" for name in SOCKETS
    ]


def test_recorder_that_was_killed_is_found(site):
    site.recorder.kill()
    site.recorder.wait()
    assert site.wrong() == [
        f"FAIL  {site.sockets}/{name}: nobody listens; {START}" for name in SOCKETS
    ]


def test_recorder_that_has_ended_is_found(site):
    site.recorder.terminate()
    assert site.recorder.wait(timeout=30) == 0
    wrapper, *postlogins = site.wrong()
    assert wrapper == f"warn  {site.sockets}/login.sock does not exist: no recorder; {START}"
    assert [line.split()[0] for line in postlogins] == ["FAIL", "FAIL"]
