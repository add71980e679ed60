"""A recorder whose own code fails, whose threads hang, or that has to share its spool."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.harness.directories import public_directory, write
from tests.harness.faults import TcpProxy
from tests.harness.postgres import Postgres
from tests.harness.process import wait_until
from tests.servers.recorder_place import PATIENCE_S, Recorder, fields
from tests.servers.wrap_fixtures import POPBSMTP

# Runs `popbsmtp` with one function of the recorder replaced.
BROKEN = """\
import sys
sys.argv[0] = "popbsmtp"
{patch}
from popbsmtp_wrap.cli.main import main
main()
"""
AN_ANSWER = """\
from popbsmtp_wrap.server.connection import Connection
send = Connection.send
def broken(self, answer):
    if answer == b"OK\\n" and not hasattr(Connection, "broken"):
        Connection.broken = True
        raise KeyError("an answer")
    return send(self, answer)
Connection.send = broken
"""
A_JOB = """\
from popbsmtp_wrap.recorder.commit_queue import CommitQueue
take = CommitQueue._take
def broken(self):
    raise KeyError("a job")
CommitQueue._take = broken
CommitQueue.write_at_once = lambda self: self._work.set() if self._waiting else None
"""


A_CALLBACK = """\
from popbsmtp_wrap.recorder.commit_queue import CommitQueue
def broken(self):
    if self._waiting:
        raise KeyError("a callback")
CommitQueue.write_at_once = broken
"""


class Broken(Recorder):
    """A recorder with a bug."""

    def __init__(self, patch, **options):
        super().__init__(**options)
        self._program = write(self.home / "broken.py", BROKEN.format(patch=patch))

    def command(self):
        return [sys.executable, str(self._program), "-c", str(self.config), "serve"]


def test_an_answer_that_fails_costs_that_answer_alone():
    with Broken(AN_ANSWER) as recorder:
        with recorder.connect() as peer:
            peer.sendall(b"popbsmtp/1\t198.51.100.1\t\t\n")
            wait_until(lambda: recorder.events("unexpected"), PATIENCE_S, "the event")
        for number in range(2, 6):
            assert recorder.login(f"198.51.100.{number}") == ("OK", "")
            assert recorder.dovecot_login(f"203.0.113.{number}") != b""
        [event] = recorder.events("unexpected")
        assert event["error"] == "KeyError('an answer')"
        assert "in broken" in event["traceback"]
        assert len(recorder.rows()) == 9


def test_a_job_that_fails_ends_the_recorder_for_its_service_manager():
    with Broken(A_JOB) as recorder:
        with recorder.connect() as peer:
            peer.sendall(b"popbsmtp/1\t198.51.100.1\talice\timap\n")
            recorder.wait_for_end()
        assert recorder.exit_status == 70
        *lines, last = recorder.log_text().splitlines()
        event = next(e for e in map(fields, lines) if e["event"] == "unexpected")
        assert (event["what"], event["error"]) == ("commits", "KeyError('a job')")
        assert "in broken" in event["traceback"]
        assert last.startswith("popbsmtp: a job of the recorder has failed")
        # What it had taken is not lost: the next one writes it.
        assert recorder.toolkit("flush").stdout == "1\n"
        assert set(recorder.rows()) == {"198.51.100.1"}


def test_a_callback_that_fails_ends_the_recorder_and_opens_the_mailbox():
    with Broken(A_CALLBACK) as recorder:
        assert recorder.dovecot_login("198.51.100.1") == b"alice\thome=/home/alice\n"
        recorder.wait_for_end()
        assert recorder.exit_status == 70
        *lines, _ = recorder.log_text().splitlines()
        events = {event["event"]: event for event in map(fields, lines)}
        assert events["unexpected"]["error"] == "KeyError('a callback')"
        assert events["stopped"]["lost"] == "0"
        assert recorder.toolkit("flush").stdout == "1\n"
        assert set(recorder.rows()) == {"198.51.100.1"}


class WithoutResolver(Recorder):
    """A recorder whose name server never answers."""

    def command(self):
        resolver = write(self.home / "resolv.conf", "nameserver 127.0.0.1\n")
        hosts = write(self.home / "hosts", "127.0.0.1 localhost\n")
        nsswitch = write(self.home / "nsswitch.conf", "passwd: files\ngroup: files\nhosts: dns\n")
        mounts = "; ".join(
            f"mount --bind {file} /etc/{file.name}" for file in (resolver, hosts, nsswitch)
        )
        serve = f"exec {POPBSMTP} -c {self.config} serve"
        return ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{mounts}; {serve}"]


@contextlib.contextmanager
def silent_name_server():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 53))
        yield


def test_a_resolver_that_hangs_does_not_hold_up_the_end():
    url = "postgresql://writer@database.example/mail"
    with silent_name_server(), contextlib.ExitStack() as stack:
        recorder = WithoutResolver()
        recorder.prepare()
        recorder.configure(url=url)
        stack.enter_context(recorder)
        assert recorder.login("198.51.100.1") == ("OK", "")
        # The thread is in the resolver, which takes 10 s and more for a name.
        began = time.monotonic()
        recorder.send_signal(signal.SIGTERM)
        recorder.wait_for_end()
        assert time.monotonic() - began < 10
        assert recorder.exit_status == 0
        assert recorder.events("stopped")[0]["lost"] == "0"


def test_a_renewal_in_a_resolver_that_hangs_does_not_hold_up_the_end():
    with silent_name_server():
        recorder = WithoutResolver()
        recorder.prepare()
        asked = recorder.home / "asked"
        session = '[{"username": "alice", "service": "imap", "pid": "1", "ip": "198.51.100.1"}]'
        script = f"#!/bin/sh\ntouch {asked}\necho '{session}'\n"
        doveadm = write(recorder.home / "doveadm", script, mode=0o755)
        url = "postgresql://writer@database.example/mail"
        recorder.configure(url=url, sessions=f'renew = "1s"\ndoveadm = "{doveadm}"')
        with recorder:
            wait_until(asked.exists, PATIENCE_S, "the renewal")
            # A moment later its thread waits for the name.
            time.sleep(1)
            began = time.monotonic()
            recorder.send_signal(signal.SIGTERM)
            recorder.wait_for_end()
            assert time.monotonic() - began < 10
            assert recorder.exit_status == 0


BROKEN_FILES = {
    "no TOML": "grace = 30m\n",
    "a number without end": f"grace = {'9' * 5000}\n",
    "brackets without end": f"grace = {'[' * 3000}\n",
    "a zero byte": '[recorder]\nusers = ["a\\u0000b"]\n',
}


@pytest.mark.parametrize("text", [*BROKEN_FILES.values(), None], ids=[*BROKEN_FILES, "a FIFO"])
def test_a_broken_configuration_changes_nothing_at_a_reload(text):
    with Recorder() as recorder:
        good = recorder.config.read_text()
        recorder.config.unlink()
        if text is None:
            os.mkfifo(recorder.config)
        else:
            write(recorder.config, text)
        recorder.send_signal(signal.SIGHUP)
        # The event loop does not wait for the file.
        assert recorder.login("198.51.100.1") == ("OK", "")
        wait_until(lambda: recorder.events("reload_failed"), PATIENCE_S, "the failure")
        assert recorder.events("unexpected") == []
        recorder.config.unlink()
        write(recorder.config, good)
        assert recorder.hup()["event"] == "reloaded"
        assert recorder.login("198.51.100.2") == ("OK", "")


def test_a_reload_that_comes_before_the_recorder_is_ready_ends_nothing():
    recorder = Recorder()
    recorder.prepare()
    with contextlib.ExitStack() as stack:
        process = subprocess.Popen(recorder.command(), stderr=subprocess.DEVNULL)
        stack.callback(process.wait)
        stack.callback(process.kill)
        # It has read its configuration, and its event loop does not run yet.
        wait_until(recorder.socket.exists, PATIENCE_S, "the socket")
        process.send_signal(signal.SIGHUP)
        assert recorder.login("198.51.100.1") == ("OK", "")
        assert process.poll() is None


@pytest.fixture(scope="module")
def postgres():
    with Postgres(public_directory()) as server:
        server.create_database("mail")
        yield server


def test_a_flush_that_waits_for_a_database_keeps_no_recorder_from_serving(postgres):
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(TcpProxy(postgres.host, postgres.port))
        recorder = Recorder(url=postgres.url("mail").replace(f":{postgres.port}", f":{proxy.port}"))
        with recorder:
            postgres.pause()
            try:
                assert recorder.login("198.51.100.1") == ("OK", "")
            finally:
                recorder.kill()
                postgres.resume()
        proxy.mode = "hang"
        flush = subprocess.Popen(
            [POPBSMTP, "-c", str(recorder.config), "flush"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(flush.kill)
        wait_until(lambda: proxy.connections > 0, PATIENCE_S, "the flush at the database")
        with recorder:
            assert recorder.login("198.51.100.2") == ("OK", "")
            assert recorder.dovecot_login("198.51.100.3") != b""
            proxy.mode = "pass"
            wait_until(lambda: recorder.status()["spool"]["logins"] == 0, PATIENCE_S, "the drain")
            flush.communicate(timeout=PATIENCE_S)
            wait_until(lambda: len(recorder.rows()) == 3, PATIENCE_S, "the rows")


def test_logins_are_spooled_beside_a_process_that_has_the_spools_lock():
    with Recorder() as recorder:
        lock = os.open(recorder.spool, os.O_RDONLY)
        recorder.stop()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            recorder.store.rename(recorder.home / "away.db")
            recorder.start()
            peers = [
                threading.Thread(target=recorder.login, args=(f"198.51.100.{n}",))
                for n in range(20)
            ]
            for peer in peers:
                peer.start()
            for peer in peers:
                peer.join()
            assert recorder.status()["spool"]["logins"] == 20
            assert recorder.status()["outcomes"] == {"spooled": 20}
            (recorder.home / "away.db").rename(recorder.store)
            time.sleep(1)
            assert recorder.status()["spool"]["logins"] == 20
        finally:
            os.close(lock)
        wait_until(lambda: recorder.status()["spool"]["logins"] == 0, PATIENCE_S, "the drain")
        assert len(recorder.rows()) == 20


def test_an_acknowledged_login_whose_row_is_gone_is_written_again(postgres):
    with Recorder(url=postgres.url("mail")) as recorder:
        recorder.toolkit("init")
        assert recorder.login("198.51.100.50", "alice") == ("OK", "")
        assert recorder.login("198.51.100.50", "bob") == ("OK", "")
        wait_until(
            lambda: recorder.status()["outcomes"].get("remembered", 0) == 1,
            PATIENCE_S,
            "the second",
        )
        postgres.sql("DELETE FROM popbsmtp WHERE address = '198.51.100.50'", "mail")
        assert recorder.login("198.51.100.50", "carol") == ("OK", "")
        wait_until(lambda: "198.51.100.50" in recorder.rows(), PATIENCE_S, "the row")


def test_a_login_that_waits_for_a_commit_is_spooled_at_the_end_and_its_mailbox_opens(postgres):
    # Nothing is given up by itself within 20 s.
    waits = {"top": "wrapper = { wait = 50 }", "recorder": "reply_timeout = 50"}
    url = postgres.url("mail")
    with Recorder(url=url, database="connect_timeout = 60", **waits) as recorder:
        assert recorder.login("198.51.100.70") == ("OK", "")
        postgres.pause()
        try:
            replies = []
            peer = threading.Thread(
                target=lambda: replies.append(recorder.dovecot_login("198.51.100.71"))
            )
            peer.start()
            wait_until(lambda: recorder.status()["waiting"] == 1, PATIENCE_S, "the commit")
            recorder.send_signal(signal.SIGTERM)
            peer.join(PATIENCE_S)
            assert replies == [b"alice\thome=/home/alice\n"]
            recorder.wait_for_end()
            assert recorder.exit_status == 0
            assert recorder.events("stopped")[0]["lost"] == "0"
        finally:
            postgres.resume()
        recorder.toolkit("flush")
        assert "198.51.100.71" in recorder.rows()


def test_a_remembered_login_is_not_lost_with_a_recorder_that_ends(postgres):
    address = "198.51.100.80"
    with Recorder(url=postgres.url("mail")) as recorder:
        assert recorder.login(address, "alice") == ("OK", "")
        postgres.stop()
        try:
            assert recorder.login(address, "bob") == ("OK", "")
            assert recorder.status()["outcomes"]["remembered"] == 1
            recorder.send_signal(signal.SIGTERM)
            recorder.wait_for_end()
        finally:
            postgres.start()
        # As a fail-over to a server that had not got the commit.
        postgres.sql(f"DELETE FROM popbsmtp WHERE address = '{address}'", "mail")
        assert recorder.toolkit("flush").stdout == "1\n"
        assert recorder.rows()[address] == "bob"


def test_a_login_during_an_outage_is_on_disk_although_its_address_was_just_written(postgres):
    address = "198.51.100.81"
    with Recorder(url=postgres.url("mail")) as recorder:
        assert recorder.login(address, "alice") == ("OK", "")
        postgres.stop()
        try:
            assert recorder.login("198.51.100.82") == ("OK", "")
            wait_until(lambda: recorder.events("database_down"), PATIENCE_S, "the outage")
            assert recorder.login(address, "bob") == ("OK", "")
            recorder.kill()
        finally:
            postgres.start()
        # As a fail-over to a server that had not got the first commit.
        postgres.sql(f"DELETE FROM popbsmtp WHERE address = '{address}'", "mail")
        assert recorder.toolkit("flush").stdout == "2\n"
        assert recorder.rows()[address] == "bob"


def test_a_login_that_needed_no_write_before_an_outage_is_on_disk_during_it(postgres):
    address = "198.51.100.83"
    with Recorder(url=postgres.url("mail")) as recorder:
        assert recorder.login(address, "alice") == ("OK", "")
        postgres.pause()
        try:
            # Nobody can have looked whether its row is still there.
            assert recorder.login(address, "bob") == ("OK", "")
            assert recorder.status()["outcomes"]["remembered"] == 1
            wait_until(lambda: recorder.events("database_down"), PATIENCE_S, "the outage")
            wait_until(lambda: recorder.status()["spool"]["logins"], PATIENCE_S, "the spool")
            recorder.kill()
        finally:
            postgres.resume()
        # As a fail-over to a server that had not got the commit.
        postgres.sql(f"DELETE FROM popbsmtp WHERE address = '{address}'", "mail")
        assert recorder.toolkit("flush").stdout == "1\n"
        assert recorder.rows()[address] == "bob"


def test_each_login_that_neither_database_nor_spool_takes_is_counted_once(postgres):
    postgres.create_database("readonly")
    with Recorder(url=postgres.url("readonly")) as recorder:
        os.rename(recorder.spool, recorder.home / "elsewhere")
        postgres.sql("ALTER DATABASE readonly SET default_transaction_read_only = on")
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'readonly'"
        )
        for number in (1, 2):
            word, reason = recorder.login(f"198.51.100.{number}")
            assert word == "NO"
            assert "No such file or directory" in reason
        # Several probes later.
        time.sleep(5)
        found = recorder.status()
        assert found["outcomes"] == {"refused": 2}
        assert "read-only transaction" in found["database"]["error"]
        postgres.sql("ALTER DATABASE readonly SET default_transaction_read_only = off")
        postgres.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'readonly'"
        )
        wait_until(lambda: len(recorder.rows()) == 2, PATIENCE_S, "the logins that were kept")
        assert recorder.status()["outcomes"]["refused"] == 2


def test_why_the_database_is_down_is_logged_although_the_spool_was_faster(postgres):
    with Recorder(url=postgres.url("mail")) as recorder:
        postgres.pause()
        try:
            assert recorder.login("198.51.100.60") == ("OK", "")
            wait_until(lambda: recorder.events("database_down"), PATIENCE_S, "the cause")
            assert recorder.login("198.51.100.61") == ("OK", "")
        finally:
            postgres.resume()
        assert "no answer within" in recorder.events("database_down")[0]["error"]
        wait_until(lambda: recorder.events("database_up"), PATIENCE_S, "the database")
        # Those that went to disk before anybody knew why count as well.
        assert recorder.events("database_up")[0]["spooled"] == "2"


def test_a_database_that_may_hang_for_long_is_down_long_before_it_says_why(postgres):
    with Recorder(url=postgres.url("mail"), database='connect_timeout = "20s"') as recorder:
        postgres.pause()
        try:
            assert recorder.login("198.51.100.62") == ("OK", "")
            wait_until(lambda: recorder.events("database_down"), PATIENCE_S, "the outage")
            assert recorder.events("database_down")[0]["error"] == "no commit within 3.4 s"
            wait_until(lambda: recorder.events("database_error"), PATIENCE_S, "the cause")
        finally:
            postgres.resume()
        assert "no answer within 20 s" in recorder.events("database_error")[0]["error"]
        wait_until(lambda: recorder.events("database_up"), PATIENCE_S, "the database")
