"""popbsmtp doctor and the spool directory."""

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.doctor.spool import check_spool
from tests.harness.directories import give, public_directory
from tests.harness.faults import HangingUnixSocket

NOW = 1_800_000_000
DRAIN = "start popbsmtp serve, or run: popbsmtp flush"


@pytest.fixture
def folder():
    return public_directory()


@pytest.fixture
def spool(folder):
    path = folder / "spool"
    path.mkdir()
    return give(path, "mail", mode=0o750)


def findings(folder, **recorder):
    paths = {"socket": f"{folder}/login.sock", "spool": f"{folder}/spool", "user": "mail"}
    settings = config.parse({"recorder": {**paths, **recorder}}, "popbsmtp.toml")
    return [str(finding) for finding in check_spool(settings, NOW)]


def put(spool, age_s, ending=".spool"):
    """Make a file that was begun so long ago, and written to just now."""
    name = f"{(NOW - age_s) * 10**9:020d}-7{ending}"
    (spool / name).touch()
    return name


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


@pytest.mark.parametrize(("age_s", "waits"), [(59, False), (60, False), (61, True), (9999, True)])
def test_logins_that_wait_for_more_than_a_minute_are_warned_of(folder, spool, age_s, waits):
    put(spool, age_s)
    put(spool, 0)
    (line,) = findings(folder)
    assert (line == f"ok    spool {spool} is right, and nothing waits") == (not waits)
    if waits:
        assert line == f"warn  logins have waited in {spool} for {age_s} s; {DRAIN}"


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
