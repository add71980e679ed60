"""popbsmtp doctor and the spool directory."""

import re

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.doctor.spool import check_spool
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.spool.append import put_all
from popbsmtp_wrap.spool.directory import lock
from popbsmtp_wrap.spool.record import format_record
from popbsmtp_wrap.spool.timestamp import Stamp
from tests.harness.directories import give, public_directory
from tests.harness.faults import HangingUnixSocket
from tests.harness.process import wait_until
from tests.servers.recorder_peers import held_database
from tests.servers.recorder_place import PATIENCE_S, Recorder

NOW = 1_800_000_000
DRAIN = "start popbsmtp serve, or run: popbsmtp flush"
LOOK = "see: popbsmtp status; journalctl -u popbsmtp"
LOGINS = 110


@pytest.fixture
def folder():
    return public_directory()


@pytest.fixture
def spool(folder):
    path = folder / "spool"
    path.mkdir()
    return give(path, "mail", mode=0o750)


def findings(folder, status=None, **recorder):
    paths = {"socket": f"{folder}/login.sock", "spool": f"{folder}/spool", "user": "mail"}
    settings = config.parse({"recorder": {**paths, **recorder}}, "popbsmtp.toml")
    return [str(finding) for finding in check_spool(settings, NOW, status)]


def put(spool, age_s, ending=".spool", logins=1):
    """Make a file that was begun so long ago, and written to just now."""
    name = f"{(NOW - age_s) * 10**9:020d}-7{ending}"
    record = format_record(Login("198.51.100.7", "alice"), Stamp("", 0, (NOW - age_s) * 10**9))
    (spool / name).write_bytes(record * logins)
    return name


def recorder_status(spool, state="up", error=None):
    """Return what a recorder says of its database and its spool."""
    return {"database": {"state": state}, "spool": {"directory": str(spool), "error": error}}


def test_empty_spool_of_the_recorders_user_is_ok(folder, spool):
    assert findings(folder) == [f"ok    spool {spool} is right, and nothing waits"]


def test_without_recorder_and_spool_the_risk_is_said(folder):
    assert findings(folder) == [
        f"ok    no spool {folder}/spool: a login that the database does not take in time is lost"
    ]


def test_recorder_without_its_spool_is_warned_of(folder):
    with HangingUnixSocket(folder / "login.sock"):
        (line,) = findings(folder)
    assert line.startswith(f"warn  no spool {folder}/spool: ")
    assert line.endswith(f"; run: install -d -m 0700 -o mail {folder}/spool")


def test_spool_that_everybody_may_write_to_fails(folder, spool):
    spool.chmod(0o752)
    assert findings(folder) == [
        f"FAIL  everybody may write to {spool}, and so open the relay; run: chmod o-w {spool}"
    ]


def test_spool_of_somebody_else_is_warned_of(folder, spool):
    give(spool, "dovecot", mode=0o750)
    assert findings(folder) == [
        f"warn  {spool} does not belong to mail, who runs the recorder; run: chown mail {spool}"
    ]


def test_recorder_that_stays_who_it_is_may_have_the_spool_of_anybody(folder, spool):
    assert findings(folder, user="") == [f"ok    spool {spool} is right, and nothing waits"]


def test_user_that_is_not_there_is_warned_of(folder, spool):
    assert findings(folder, user="no-such-user") == [
        "warn  there is no user no-such-user (recorder.user); run: adduser"
    ]


@pytest.mark.parametrize("age_s", [1, 59, 61, 9999])
def test_logins_that_no_recorder_will_write_are_counted_and_warned_of(folder, spool, age_s):
    put(spool, age_s, logins=2)
    put(spool, 0, logins=3)
    assert findings(folder) == [
        f"warn  5 logins wait in {spool}, the oldest for {age_s} s; {DRAIN}"
    ]


def test_one_login_is_one(folder, spool):
    put(spool, 7)
    assert findings(folder) == [f"warn  1 login waits in {spool}, the oldest for 7 s; {DRAIN}"]


@pytest.mark.parametrize(("age_s", "waits"), [(0, 0), (59, 0), (60, 0), (61, 1), (9999, 1)])
def test_logins_that_a_recorder_does_not_write_in_a_minute_are_warned_of(
    folder, spool, age_s, waits
):
    put(spool, age_s)
    (line,) = findings(folder, recorder_status(spool))
    what = f"1 login waits in {spool}, the oldest for {age_s} s"
    if waits:
        assert line == f"warn  {what}, and the recorder does not write them; {LOOK}"
    else:
        assert line == f"ok    {what}; the recorder writes them now"


def test_why_the_recorder_does_not_write_them_is_said(folder, spool):
    put(spool, 61)
    (line,) = findings(folder, recorder_status(spool, error="spool /x: Input/output error"))
    assert line.endswith(
        f", and the recorder does not write them: spool /x: Input/output error; {LOOK}"
    )


@pytest.mark.parametrize("age_s", [0, 9999])
def test_logins_of_a_recorder_without_its_database_are_warned_of(folder, spool, age_s):
    put(spool, age_s)
    (line,) = findings(folder, recorder_status(spool, state="down"))
    assert line == (
        f"warn  1 login waits in {spool}, the oldest for {age_s} s: the recorder has no database;"
        " get it back; they are written then"
    )


def test_logins_in_another_spool_than_the_recorders_are_warned_of(folder, spool):
    put(spool, 0)
    (line,) = findings(folder, recorder_status("/other"))
    assert line == (
        f"warn  1 login waits in {spool}, the oldest for 0 s; the recorder uses /other;"
        " run: systemctl restart popbsmtp"
    )


def test_segment_without_a_login_is_nothing_that_waits(folder, spool):
    put(spool, 9999, logins=0)
    assert findings(folder) == [f"ok    spool {spool} is right, and nothing waits"]


def told(recorder):
    """Return what `popbsmtp doctor` says of the spool, its seconds as S."""
    lines = recorder.toolkit("doctor").stdout.splitlines()
    (line,) = [line for line in lines if str(recorder.spool) in line]
    return re.sub(r"\b\d+ s\b", "S", line)


def test_logins_that_wait_are_said_from_their_arrival_to_their_commit():
    with Recorder() as recorder:
        what = f"{LOGINS} logins wait in {recorder.spool}, the oldest for S"
        with held_database(recorder):
            for number in range(LOGINS):
                assert recorder.login(f"198.51.100.{number}") == ("OK", "")
            assert told(recorder) == (
                f"warn  {what}: the recorder has no database; get it back; they are written then"
            )
            recorder.stop()
            assert told(recorder) == f"warn  {what}; {DRAIN}"
        recorder.start()
        wait_until(lambda: len(recorder.rows()) == LOGINS, PATIENCE_S, "the drain")
        assert told(recorder) == f"ok    spool {recorder.spool} is right, and nothing waits"


def test_logins_that_a_recorder_is_about_to_write_are_ok():
    with Recorder() as recorder:
        recorder.stop()
        # As popbsmtp flush has it while it reads: the recorder waits for it.
        with lock(str(recorder.spool), 1 << 20):
            recorder.start()
            logins = [(Login(f"198.51.100.{n}"), Stamp.now()) for n in range(LOGINS)]
            put_all(str(recorder.spool), 1 << 20, logins)
            assert told(recorder) == (
                f"ok    {LOGINS} logins wait in {recorder.spool}, the oldest for S;"
                " the recorder writes them now"
            )
        wait_until(lambda: len(recorder.rows()) == LOGINS, PATIENCE_S, "the drain")


def test_what_was_set_aside_is_counted(folder, spool):
    put(spool, 0, ".spool.bad")
    oldest = put(spool, 9999, ".spool.bad")
    put(spool, 9999, ".tmp")
    (spool / "notes.bad").touch()
    (line,) = findings(folder)
    assert line == (
        f"warn  2 set aside in {spool}, where a record could not be read: {oldest};"
        " look at it, then remove it"
    )


def test_everything_wrong_is_said_at_once(folder, spool):
    give(spool, "dovecot", mode=0o777)
    put(spool, 61)
    put(spool, 61, ".spool.bad")
    assert [line.split()[0] for line in findings(folder)] == ["FAIL", "warn", "warn", "warn"]


def test_file_in_its_place_fails(folder):
    (folder / "spool").touch()
    assert findings(folder) == [f"FAIL  {folder}/spool is no directory; remove it"]
