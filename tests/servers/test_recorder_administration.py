"""Who may do what with a running recorder: record, ask for its status, revoke; and flush."""

import contextlib
import json
import pwd
import re
import sqlite3
import subprocess

import pytest

from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.wrap_fixtures import GREETING, launcher, session

ADDRESS = "198.51.100.7"
OPEN = 'socket_mode = "0666"'


@pytest.fixture
def recorder():
    with Recorder() as made:
        yield made


@contextlib.contextmanager
def away(recorder):
    """Have the SQLite store away, as if its disk were not mounted, since the recorder started."""
    recorder.stop()
    elsewhere = recorder.store.parent.rename(recorder.home / "away")
    recorder.start()
    try:
        yield
    finally:
        elsewhere.rename(recorder.store.parent)


def as_user(name):
    return {"user": name, "group": pwd.getpwnam(name).pw_gid, "extra_groups": []}


def test_status_is_for_people_and_for_programs(recorder):
    recorder.login(ADDRESS)
    recorder.dovecot_login("2001:db8::7", service="pop3")
    done = recorder.toolkit("status", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert found["logins"] == {"wrapper": 1, "postlogin-pop3": 1}
    assert found["outcomes"] == {"committed": 2}
    assert found["batches"] == 2
    assert found["pid"] == recorder.pid
    assert found["spool"]["directory"] == str(recorder.spool)
    lines = recorder.toolkit("status").stdout.splitlines()
    shown = dict(re.split(r"  +", line, maxsplit=1) for line in lines)
    assert shown["logins.postlogin-pop3"] == "1"
    assert shown["database.state"] == "up"
    assert "database.error" not in shown


def test_status_shows_no_password():
    url = "postgresql://writer:hush@127.0.0.1:1/mail"
    recorder = Recorder()
    recorder.prepare()
    recorder.configure(url=url)
    with recorder:
        recorder.login(ADDRESS)
        found = recorder.toolkit("status", "--json")
        assert json.loads(found.stdout)["database"]["url"] == url.replace("hush", "***")
        assert json.loads(found.stdout)["database"]["state"] == "down"
        assert "hush" not in found.stdout + recorder.log_text()


def test_without_a_recorder_status_ends_with_69():
    recorder = Recorder()

    def says_that_none_answers():
        done = recorder.toolkit("status")
        assert (done.returncode, done.stdout) == (69, "")
        assert f"popbsmtp: no recorder answers at {recorder.socket}: " in done.stderr

    says_that_none_answers()
    recorder.start()
    recorder.kill()
    says_that_none_answers()


def test_who_may_record_may_not_see_or_undo_what_others_do():
    with Recorder(recorder=f'{OPEN}\nusers = ["nobody"]') as recorder:
        recorder.config.chmod(0o644)
        recorder.login(ADDRESS)
        done = recorder.toolkit("status", **as_user("nobody"))
        assert (done.returncode, done.stdout) == (77, "")
        assert "is not root or the recorder's user" in done.stderr
        recorder.toolkit("revoke", ADDRESS, **as_user("nobody"))
        recorder.login(ADDRESS)
        assert recorder.status()["outcomes"] == {"committed": 1, "remembered": 1}


def test_the_recorders_own_user_may_ask_for_its_status():
    with Recorder(becomes="dovecot") as recorder:
        done = recorder.toolkit("status", **as_user("dovecot"))
        assert done.returncode == 0


def run_wrapper(recorder, user):
    """Return the lines on stderr of a login by the wrapper, whose program runs all the same."""
    words = ["--config", str(recorder.config), "--socket", str(recorder.socket), "--wait", "30"]
    environment = {"IP": ADDRESS, "USER": "alice"}
    return session([launcher(), *words, *GREETING], environment, **as_user(user)).lines


def test_wrapper_that_is_refused_records_by_itself_until_its_user_is_named():
    with Recorder(recorder=OPEN) as recorder:
        recorder.config.chmod(0o644)
        # A wrapper that may write to the store has no need of a recorder.
        subprocess.run(["chmod", "-R", "a+rwX", recorder.store.parent], check=True)
        (line,) = run_wrapper(recorder, "nobody")
        nobody = pwd.getpwnam("nobody").pw_uid
        assert line == (
            f"popbsmtp-wrap: {ADDRESS} recorded without the recorder: recorder at"
            f" {recorder.socket}: user {nobody} may not record logins, see recorder.users"
        )
        assert recorder.rows() == {ADDRESS: "alice"}
        assert recorder.status()["dropped"] == {"refused": 1}
        assert recorder.events("peer_refused")[0]["uid"] == str(nobody)
        recorder.toolkit("revoke", "--all")
        recorder.configure(recorder=f'{OPEN}\nusers = ["nobody"]')
        recorder.config.chmod(0o644)
        recorder.hup()
        assert run_wrapper(recorder, "nobody") == []
        assert recorder.status()["logins"] == {"wrapper": 1}
        assert recorder.rows() == {ADDRESS: "alice"}


def test_wrapper_that_the_socket_keeps_out_says_so():
    with Recorder(recorder='socket_mode = "0600"\nusers = ["nobody"]') as recorder:
        recorder.config.chmod(0o644)
        subprocess.run(["chmod", "-R", "a+rwX", recorder.store.parent], check=True)
        (line,) = run_wrapper(recorder, "nobody")
        assert line.endswith(f"recorder at {recorder.socket}: [Errno 13] Permission denied")
        assert recorder.rows() == {ADDRESS: "alice"}


@pytest.mark.parametrize("which", [[ADDRESS], ["--all"], ["203.0.113.1", "::ffff:198.51.100.7"]])
def test_login_after_a_revoke_is_written_again(recorder, which):
    recorder.login(ADDRESS)
    done = recorder.toolkit("revoke", *which)
    assert (done.returncode, done.stderr) == (0, "")
    assert recorder.rows() == {}
    recorder.login(ADDRESS)
    assert recorder.rows() == {ADDRESS: "alice"}


def test_revoke_of_another_address_leaves_the_memory_alone(recorder):
    recorder.login(ADDRESS)
    recorder.toolkit("revoke", "203.0.113.1")
    recorder.login(ADDRESS)
    assert recorder.status()["outcomes"]["remembered"] == 1


def test_row_that_goes_away_behind_the_recorders_back_comes_back_soon(recorder):
    recorder.login(ADDRESS)
    with sqlite3.connect(recorder.store) as connection:
        connection.execute("DELETE FROM popbsmtp")
    connection.close()

    def is_back():
        recorder.login(ADDRESS)
        return ADDRESS in recorder.rows()

    wait_until(is_back, PATIENCE_S, "the row")


@pytest.mark.parametrize("running", [True, False], ids=["recorder", "no recorder"])
@pytest.mark.parametrize("which", [[ADDRESS], ["--all"]])
def test_spooled_login_of_a_revoked_address_does_not_come_back(recorder, which, running):
    with away(recorder):
        recorder.login(ADDRESS)
        recorder.login("203.0.113.7")
        assert recorder.status()["outcomes"] == {"spooled": 2}
        if not running:
            recorder.kill()
        done = recorder.toolkit("revoke", *which)
        # The spool is done; the database, which is not there, has to be asked again.
        assert done.returncode == 78
        assert "unable to open database file" in done.stderr
    if running:
        wait_until(lambda: recorder.status()["spool"]["logins"] == 0, PATIENCE_S, "the drain")
    else:
        recorder.toolkit("flush")
    assert set(recorder.rows()) == ({"203.0.113.7"} if which == [ADDRESS] else set())


def test_flush_writes_what_a_killed_recorder_has_left(recorder):
    with away(recorder):
        for number in range(100):
            assert recorder.login(f"198.51.100.{number}") == ("OK", "")
        recorder.kill()
    done = recorder.toolkit("flush")
    assert (done.returncode, done.stdout, done.stderr) == (0, "100\n", "")
    assert len(recorder.rows()) == 100
    assert recorder.toolkit("flush").stdout == "0\n"


def test_flush_leaves_the_spool_to_a_running_recorder(recorder):
    with away(recorder):
        recorder.login(ADDRESS)
        done = recorder.toolkit("flush")
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")
        assert recorder.status()["spool"]["logins"] == 1


def test_flush_keeps_everything_while_the_database_is_down(recorder):
    sqlite = recorder.url
    recorder.configure(url="postgresql://writer@127.0.0.1:1/mail")
    recorder.hup()
    assert recorder.login(ADDRESS) == ("OK", "")
    recorder.kill()
    done = recorder.toolkit("flush")
    assert (done.returncode, done.stdout) == (75, "")
    assert done.stderr.startswith("popbsmtp: postgresql://writer@127.0.0.1:1/mail: ")
    recorder.configure(url=sqlite)
    assert recorder.toolkit("flush").stdout == "1\n"
    assert recorder.rows() == {ADDRESS: "alice"}


def test_flush_without_a_spool_or_with_an_empty_one_asks_no_database():
    recorder = Recorder(url="postgresql://nobody@127.0.0.1:1/none")
    for prepare in (lambda: None, recorder.spool.mkdir):
        prepare()
        done = recorder.toolkit("flush")
        assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_flush_says_what_it_drops(recorder):
    with away(recorder):
        recorder.login(ADDRESS)
        recorder.kill()
    (segment,) = recorder.spool.glob("*.spool")
    text = segment.read_bytes()
    segment.write_bytes(text.replace(b"spool/1\t", b"spool/1\tx", 1) + text + b"torn")
    done = recorder.toolkit("flush")
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == (
        "popbsmtp: 2 records were damaged and are kept in *.bad files of the spool\n"
    )
    (bad,) = recorder.spool.glob("*.bad")
    assert bad.read_bytes().endswith(b"torn")
