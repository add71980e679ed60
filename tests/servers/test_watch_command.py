"""popbsmtp watch as a command: its options, its signals, standard input, the background."""

import os
import signal
import subprocess
import time
from datetime import UTC, datetime

import pytest

from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder
from tests.servers.watch_place import Watch, append, dovecot, pid_of, rows, seen_ago
from tests.servers.wrap_fixtures import POPBSMTP

COURIER = "{} mail imapd: {}, user=bob, ip=[{}], port=[58833], protocol=IMAP"


@pytest.fixture(scope="module")
def shared():
    sessions = 'doveadm = "/bin/false"'
    with Recorder(top='grace = "6s"', recorder='refresh = "1s"', sessions=sessions) as made:
        yield made


@pytest.fixture
def recorder(shared):
    shared.configure(top='grace = "6s"', ignore="", sessions='doveadm = "/bin/false"')
    shared.empty()
    return shared


def command(recorder, *arguments, **options):
    """Return how `popbsmtp watch ARGUMENTS` ended."""
    state = str(recorder.home / "state-of-a-command")
    return recorder.toolkit("watch", "--state", state, *arguments, **options)


def utc_stamp(ago_s=0.0):
    return f"{datetime.fromtimestamp(time.time() - ago_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_standard_input_is_read_to_its_end_which_is_no_failure(recorder):
    lines = [dovecot("198.51.100.1"), dovecot("198.51.100.2", ago_s=20), "", dovecot("192.0.2.9")]
    done = command(recorder, "-", input="\n".join(lines))
    assert done.returncode == 0, done.stderr
    # The last line has no end: it may have been cut.
    assert set(rows(recorder)) == {"198.51.100.1"}


def test_local_networks_are_never_recorded_and_are_read_again_on_hup(recorder):
    recorder.configure(ignore='networks = ["198.51.100.0/24"]')
    with Watch(recorder, "--debug") as watch:
        append(watch.log, dovecot("198.51.100.1"), dovecot("127.0.0.1"), dovecot("203.0.113.1"))
        watch.wait_for_rows({"203.0.113.1"})
        assert set(rows(recorder)) == {"203.0.113.1"}
        assert len(watch.events("ignored")) == 2
        recorder.configure(ignore='networks = ["203.0.113.0/24"]')
        assert recorder.hup()["event"] == "reloaded"
        watch.send_signal(signal.SIGHUP)
        watch.wait_for_event("reloaded")
        append(watch.log, dovecot("198.51.100.2"), dovecot("203.0.113.2"))
        watch.wait_for_rows({"198.51.100.2"})
        assert set(rows(recorder)) == {"203.0.113.1", "198.51.100.2"}


def test_a_configuration_that_is_wrong_on_hup_changes_nothing(recorder):
    with Watch(recorder) as watch:
        recorder.configure(top='grace = "soon"')
        watch.send_signal(signal.SIGHUP)
        watch.wait_for_event("reload_failed")
        append(watch.log, dovecot("198.51.100.1"))
        watch.wait_for_rows({"198.51.100.1"})


def test_hup_goes_on_in_a_new_log_and_with_other_files(recorder):
    watch = Watch(recorder, log=False)
    own_log, second = watch.home / "watch.log", watch.home / "second.log"
    watch.arguments = ["--logto", str(own_log)]
    watch.is_ready = lambda: own_log.exists() and "event=started" in own_log.read_text()
    recorder.configure(top=f'grace = "6s"\nwatch = {{ files = ["{watch.log}"] }}')
    with watch:
        append(watch.log, dovecot("198.51.100.1"))
        watch.wait_for_rows({"198.51.100.1"})
        own_log.rename(watch.home / "watch.log.1")
        recorder.configure(top=f'grace = "6s"\nwatch = {{ files = ["{second}"] }}')
        watch.send_signal(signal.SIGHUP)
        wait_until(own_log.exists, PATIENCE_S, "the new log")
        wait_until(lambda: "event=reloaded" in own_log.read_text(), PATIENCE_S, "the reload")
        append(watch.log, dovecot("198.51.100.2"))
        append(second, dovecot("198.51.100.3"))
        watch.wait_for_rows({"198.51.100.3"})
        assert set(rows(recorder)) == {"198.51.100.1", "198.51.100.3"}


def test_in_the_background_it_holds_its_pid_file_and_a_second_one_is_refused(recorder):
    watch = Watch(recorder)
    pid_path, own_log = watch.home / "watch.pid", watch.home / "own.log"
    arguments = ["--daemon", str(pid_path), "--logto", str(own_log), str(watch.log)]
    done = command(recorder, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    pid = pid_of(pid_path.read_text())
    try:
        assert os.getsid(pid) != os.getsid(0)
        append(watch.log, dovecot("198.51.100.1"))
        watch.wait_for_rows({"198.51.100.1"})
        second = command(recorder, *arguments)
        assert second.returncode == 69
        assert second.stderr == (
            f"popbsmtp: --daemon {pid_path}: process {pid} runs already; end it with: kill {pid}\n"
        )
        assert pid_of(pid_path.read_text()) == pid
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not alive(pid), PATIENCE_S, "the end of the watcher")
    assert not pid_path.exists()
    assert "event=stopped" in own_log.read_text()


def test_a_pid_file_that_was_left_by_kill_9_is_taken_over(recorder):
    watch = Watch(recorder)
    pid_path = watch.home / "watch.pid"
    left = subprocess.run(["sh", "-c", f"echo $$ > {pid_path}; kill -9 $$"])
    assert left.returncode == -signal.SIGKILL
    before = pid_of(pid_path.read_text())
    arguments = ["--daemon", str(pid_path), "--logto", str(watch.home / "own"), str(watch.log)]
    assert command(recorder, *arguments).returncode == 0
    pid = pid_of(pid_path.read_text())
    assert pid != before
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), PATIENCE_S, "the end of the watcher")


def test_two_watchers_never_share_their_positions(recorder):
    with Watch(recorder) as watch:
        second = recorder.toolkit("watch", "--state", str(watch.state), "/var/log/x")
    assert second.returncode == 69
    assert second.stderr.startswith(f"popbsmtp: another popbsmtp watch uses {watch.state};")


def test_nowrite_tells_of_logins_and_records_none(recorder):
    done = command(recorder, "--nowrite", "-", input=dovecot("198.51.100.1") + "\n")
    assert done.returncode == 0
    assert "event=login" in done.stderr
    assert "address=198.51.100.1 user=alice service=imap" in done.stderr
    assert rows(recorder) == {}


def test_a_whole_log_happens_again_at_its_own_times(recorder, tmp_path):
    log = tmp_path / "old.log"
    then = [dovecot(f"198.51.100.{n}", stamp=f"2020-03-01T10:00:{n:02}Z") for n in range(20)]
    append(log, *then, "nothing", dovecot("127.0.0.1"))
    printed = command(recorder, "--reprocess", "--nowrite", str(log))
    assert printed.stdout == (
        "22 lines, 20 logins, 1 ignored, 0 without a time\n"
        "7 addresses may relay at 2020-03-01T10:00:19Z; none was recorded\n"
    )
    assert rows(recorder) == {}
    recorded = command(recorder, "--reprocess", str(log))
    assert recorded.returncode == 0, recorded.stderr
    # The end of the log is now: those of its last six seconds may relay, for what is left of them.
    found = rows(recorder)
    assert {f"198.51.100.{n}" for n in (17, 18, 19)} <= set(found)
    assert set(found) <= {f"198.51.100.{n}" for n in range(13, 20)}
    assert found["198.51.100.19"] - found["198.51.100.17"] == 2


def test_a_log_that_is_not_there_cannot_happen_again(recorder):
    done = command(recorder, "--reprocess", "/var/log/none.log")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == "popbsmtp: /var/log/none.log: No such file or directory\n"


def test_debug_shows_each_login_of_a_log(recorder, tmp_path):
    log = tmp_path / "old.log"
    append(log, dovecot("198.51.100.1", user="ä", stamp="2020-03-01T10:00:00Z"))
    done = command(recorder, "--reprocess", "--nowrite", "--debug", str(log))
    first = done.stdout.splitlines()[0]
    assert first == "2020-03-01T10:00:00Z 198.51.100.1 imap \\xe4 dovecot"


def test_grace_and_server_narrow_what_counts(recorder):
    lines = f"{dovecot('198.51.100.1', ago_s=5)}\n{dovecot('198.51.100.2')}\n"
    assert command(recorder, "--grace", "3s", "-", input=lines).returncode == 0
    assert set(rows(recorder)) == {"198.51.100.2"}
    more = f"{dovecot('198.51.100.3')}\n{COURIER.format(utc_stamp(), 'LOGIN', '198.51.100.4')}\n"
    assert command(recorder, "--server", "courier", "-", input=more).returncode == 0
    assert set(rows(recorder)) == {"198.51.100.2", "198.51.100.4"}


def test_dumpconfig_and_list_print_and_end(recorder):
    recorder.login("198.51.100.1")
    done = command(recorder, "--dumpconfig", "--list", "--watchlog", "/var/log/maillog")
    assert done.returncode == 0
    shown = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert shown["files"] == "/var/log/maillog"
    assert shown["grace"] == "6 s"
    assert shown["recorder"] == str(recorder.socket)
    assert shown["renew"] == "2 s"
    assert shown["logto"] == "stderr"
    assert "198.51.100.1" in shown


@pytest.mark.parametrize(
    ("arguments", "logto"),
    [
        (["--daemon", "/run/watch.pid"], "syslog"),
        (["--daemon", "/run/watch.pid", "--logto", "/var/log/watch"], "/var/log/watch"),
        (["--logto", "-"], "-"),
    ],
)
def test_dumpconfig_says_where_it_would_log(recorder, arguments, logto):
    done = command(recorder, "--dumpconfig", *arguments)
    assert dict(line.split(maxsplit=1) for line in done.stdout.splitlines())["logto"] == logto


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--grace", "soon"], 2, 'expected a duration such as 90, "90s", "30m" or "2h".'),
        (["--grace", "1.5s"], 2, 'expected whole seconds from "1s" to "168h".'),
        (["--server", "postfix"], 78, "watch.servers: unknown: postfix; known: "),
        (["--logto", "/nowhere/log"], 77, "--logto /nowhere/log: No such file or directory"),
        (["--daemon", "/nowhere/pid"], 77, "--daemon /nowhere/pid: No such file or directory"),
    ],
)
def test_what_cannot_work_is_said_at_once(recorder, arguments, status, message):
    done = command(recorder, *arguments, "/var/log/x")
    assert (done.returncode, done.stdout) == (status, "")
    assert message in done.stderr


def test_sigterm_ends_it_while_it_reads_a_pipe(recorder):
    words = [POPBSMTP, "-c", str(recorder.config), "watch", "--state", f"{recorder.home}/s", "-"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(f"{dovecot('198.51.100.1')}\n".encode())
        process.stdin.flush()
        wait_until(lambda: rows(recorder), PATIENCE_S, "the row")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


class Courier:
    """A server that logs into *log*, and has logged a logout before: only then sessions count."""

    def __init__(self, log):
        self._log = log
        self.says("LOGOUT", "203.0.113.99")

    def says(self, word, address):
        append(self._log, COURIER.format(utc_stamp(), word, address))


def wait_until_renewed(recorder, address, later_s=1):
    last = rows(recorder)[address]
    renewed = lambda: rows(recorder)[address] >= last + later_s  # noqa: E731
    wait_until(renewed, PATIENCE_S, f"{address} renewed")


def test_revoke_ends_the_renewals_of_a_session_that_is_counted(recorder):
    with Watch(recorder) as watch:
        courier = Courier(watch.log)
        for number in (1, 2):
            courier.says("LOGIN", f"198.51.100.{number}")
        watch.wait_for_rows({"198.51.100.1", "198.51.100.2"})
        assert recorder.toolkit("revoke", "198.51.100.1").stdout == "1\n"
        wait_until_renewed(recorder, "198.51.100.2", later_s=6)
        assert set(rows(recorder)) == {"198.51.100.2"}
        courier.says("LOGIN", "198.51.100.1")
        watch.wait_for_rows({"198.51.100.1"})


def test_a_recorder_that_is_away_gets_renewals_when_it_is_back_and_none_waits_in_its_spool(
    recorder,
):
    with Watch(recorder) as watch:
        courier = Courier(watch.log)
        courier.says("LOGIN", "198.51.100.1")
        courier.says("LOGIN", "198.51.100.2")
        watch.wait_for_rows({"198.51.100.1", "198.51.100.2"})
        recorder.stop()
        try:
            watch.wait_for_event("not_renewed")
            # The spool would take logins after 3 s.
            time.sleep(5)
            assert len(watch.events("not_renewed")) == 1
            assert list(recorder.spool.glob("*.spool")) == []
            assert recorder.toolkit("revoke", "198.51.100.1").stdout == "1\n"
        finally:
            recorder.start()
        wait_until_renewed(recorder, "198.51.100.2")
        assert set(rows(recorder)) == {"198.51.100.2"}
        assert recorder.status()["logins"]["watched-sessions"] >= 1


def test_renewals_of_the_watcher_follow_sessions_renew(recorder):
    recorder.configure(top='grace = "6s"', sessions="renew = 0")
    with Watch(recorder) as watch:
        courier = Courier(watch.log)
        courier.says("LOGIN", "198.51.100.1")
        watch.wait_for_rows({"198.51.100.1"})
        last = rows(recorder)
        time.sleep(4)
        assert rows(recorder) == last
        recorder.configure(top='grace = "6s"', sessions='renew = "1s"\ndoveadm = "/bin/false"')
        watch.send_signal(signal.SIGHUP)
        wait_until_renewed(recorder, "198.51.100.1")


def test_a_session_that_stays_open_is_renewed_until_it_ends(recorder):
    with Watch(recorder) as watch:

        def courier(word, address):
            append(watch.log, COURIER.format(utc_stamp(), word, address))

        # Only who logs logouts is counted.
        courier("LOGOUT", "203.0.113.99")
        courier("LOGIN", "198.51.100.1")
        courier("LOGIN", "198.51.100.2")
        watch.wait_for_rows({"198.51.100.1", "198.51.100.2"})
        courier("LOGOUT", "198.51.100.2")
        last = rows(recorder)
        later = lambda: rows(recorder)["198.51.100.1"] >= last["198.51.100.1"] + 4  # noqa: E731
        wait_until(later, PATIENCE_S, "two renewals")
        assert rows(recorder)["198.51.100.2"] == last["198.51.100.2"]
        assert seen_ago(recorder, "198.51.100.1") < 6
        # Restarted, it knows of no session: that an end was missed must not count for ever.
        watch.stop()
        watch.start()
        before = rows(recorder)
        time.sleep(2.5)
        assert rows(recorder) == before
