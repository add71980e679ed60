"""SQLite with the files that `popbsmtp init` makes: nobody locks the other side out."""

import grp
import os
import stat
import subprocess
import sys
import time

import pytest
from relay_world import POPBSMTP, new_world

from tests.harness.smtp_client import SmtpSession, smtp_rcpt

# Somebody whose only right is the group of the directory, as Dovecot's extra_groups gives it.
NOBODY = {"user": "nobody", "group": "nogroup"}
# Records until told to stop, each login with a connection of its own, as the wrapper does. When
# the last connection closes, SQLite shuts readers that come at this moment out.
WRITER = """
import select, sys, time
from popbsmtp_wrap import config
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.store.upsert import record
store = open_store(config.load(sys.argv[1]).database)
number = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    record(store, Login(f"203.0.113.{number % 250}", "alice"))
    number += 1
    time.sleep(0.005)
print(number)
"""


@pytest.fixture(scope="module")
def world():
    world = new_world("sqlite")
    world.config.chmod(0o644)
    return world


@pytest.fixture(params=["proxied", "direct"])
def relay(request, world):
    """Postfix as generated, and one whose smtpd opens the database itself."""
    relay = world.relay()
    if request.param == "direct":
        lines = (relay.directory / "popbsmtp-main.cf").read_text().replace("proxy:", "")
        relay.postfix.write_main_cf(lines)
        relay.postfix.reload()
    yield relay
    relay.postfix.stop()


def as_nobody(world):
    return {**NOBODY, "extra_groups": [world.path.parent.stat().st_gid], "cwd": "/"}


def record(world, address):
    done = subprocess.run(
        [POPBSMTP, "-c", str(world.config), "record", address],
        capture_output=True,
        text=True,
        timeout=60,
        **as_nobody(world),
    )
    assert (done.returncode, done.stderr) == (0, "")


def beside(world):
    return {path for path in world.path.parent.iterdir() if path != world.path}


def recorded_so_far(world):
    return world.sql("SELECT count(*) FROM popbsmtp WHERE address LIKE '203.0.113.%'")[0][0]


def test_init_makes_what_both_sides_need(world):
    group = grp.getgrnam("postfix").gr_gid
    directory, database = os.stat(world.path.parent), os.stat(world.path)
    assert (stat.S_IMODE(directory.st_mode), directory.st_gid) == (0o2770, group)
    assert (stat.S_IMODE(database.st_mode), database.st_gid) == (0o660, group)
    assert world.sql("PRAGMA journal_mode") == [("wal",)]


def test_postfix_reads_while_an_unprivileged_writer_writes(world):
    """Once proxymap has the database open, no login is the last one to close it."""
    relay = world.relay(chroot=True)
    world.clear()
    world.plant("198.51.100.7")
    assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 250
    with subprocess.Popen(
        [sys.executable, "-I", "-c", WRITER, str(world.config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **as_nobody(world),
    ) as writer:
        codes = []
        # However fast the disk is: until both sides have done enough to meet.
        began = time.monotonic()
        while len(codes) < 900 or recorded_so_far(world) <= 50:
            assert time.monotonic() - began < 300
            with SmtpSession(relay.port, "198.51.100.7") as session:
                session.mail("alice@example.org")
                codes.extend(session.rcpt(f"x{n}@elsewhere.example")[0] for n in range(30))
            time.sleep(0.05)
        recorded, _ = writer.communicate("stop\n", timeout=60)
    assert writer.returncode == 0
    assert codes == [250] * len(codes)
    assert int(recorded) > 50
    assert "fatal" not in relay.postfix.log_text()
    assert smtp_rcpt(relay.port, "203.0.113.1")[0] == 250
    assert smtp_rcpt(relay.port, "198.51.100.8")[0] == 554
    relay.postfix.stop()


@pytest.mark.parametrize("first", ["writer", "reader"])
def test_either_side_may_create_the_files_beside_the_database(world, relay, first):
    """Without -wal and -shm, whoever comes first makes them, and the other one can go on."""
    relay.postfix.stop()
    # The last one to close puts the files away.
    world.clear()
    assert beside(world) == set()
    relay.postfix.start()
    if first == "reader":
        assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 554
    record(world, "198.51.100.7")
    assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 250
    assert smtp_rcpt(relay.port, "198.51.100.8")[0] == 554
    record(world, "198.51.100.8")
    assert smtp_rcpt(relay.port, "198.51.100.8")[0] == 250
    group = grp.getgrnam("postfix").gr_gid
    for path in beside(world):
        assert path.stat().st_gid == group, path
        assert path.stat().st_mode & 0o060 == 0o060, path
    assert "fatal" not in relay.postfix.log_text()


def test_root_and_the_writer_take_turns(world, relay):
    world.clear()
    for number in range(3):
        world.popbsmtp("record", f"198.51.100.{number}")
        record(world, f"203.0.113.{number}")
        assert smtp_rcpt(relay.port, f"198.51.100.{number}")[0] == 250
        assert smtp_rcpt(relay.port, f"203.0.113.{number}")[0] == 250
    world.popbsmtp("expire")
    record(world, "203.0.113.99")
    assert smtp_rcpt(relay.port, "203.0.113.99")[0] == 250


def test_a_missing_database_stops_relaying_only_and_comes_back():
    world = new_world("sqlite")
    relay = world.relay(chroot=True)
    world.plant("198.51.100.7")
    assert smtp_rcpt(relay.port, "198.51.100.7")[0] == 250
    relay.postfix.stop()
    away = world.path.with_suffix(".away")
    world.path.rename(away)
    relay.postfix.start()
    assert smtp_rcpt(relay.port, "198.51.100.7", "bob@example.org")[0] == 250
    relay.postfix.stop()
