"""A request that waited in a listen queue is as old as it is, and one without a time no login."""

import contextlib
import json
import os
import socket
import time
from datetime import datetime

import pytest

from popbsmtp_wrap.wire import format_request, read_clocks
from tests.harness.process import wait_until
from tests.servers.recorder_place import (
    PATIENCE_S,
    Recorder,
    answers,
    dovecot_request,
    read_all,
)
from tests.servers.test_recorder_activation import Activated
from tests.servers.wrap_fixtures import GREETING, launcher, session

QUEUED_S = 4.0
# A row may say a second less, as ages are rounded up, and as much less as the machine is slow.
SLACK_S = 2.5


@pytest.fixture
def activated():
    """A recorder that has not been started yet, with sockets that queue."""
    recorder = Activated()
    yield recorder
    with contextlib.suppress(RuntimeError):
        recorder.kill()
    for listener in recorder.passed:
        listener.close()


def seen(recorder):
    """When each address was last seen, by the wall clock."""
    listed = recorder.toolkit("list", "--json")
    assert listed.returncode == 0, listed.stderr
    return {
        row["address"]: datetime.fromisoformat(row["last_seen"]).timestamp()
        for row in json.loads(listed.stdout)
    }


def wrapper(recorder, address, wait, config="/no/such/file"):
    """Run the real wrapper against the recorder's socket; its own recording fails."""
    command = [launcher(), "--config", config, "--socket", str(recorder.socket), "--wait", wait]
    return session([*command, *GREETING], {"IP": address, "USER": "alice"})


def old_request(address):
    """What a wrapper sent before requests had a time."""
    return format_request(address, b"alice", b"imap")


def hang_up(path, request):
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
        peer.sendall(request)


def leave_behind(recorder):
    """Have everybody ask who will not wait."""
    wrapper(recorder, "198.51.100.1", "0.5")
    wrapper(recorder, "198.51.100.2", "0")
    hang_up(recorder.socket, old_request("198.51.100.3"))
    hang_up(recorder.postlogin["imap"], dovecot_request("198.51.100.4"))
    aged = format_request("198.51.100.5", b"alice", b"imap", 3, read_clocks())
    hang_up(recorder.socket, aged)


def not_recorded(recorder, count):
    """Wait until *count* requests that are no logins were counted; return the outcomes."""

    def counted():
        outcomes = recorder.status()["outcomes"]
        return outcomes.get("hung up", 0) + outcomes.get("too old", 0) == count

    wait_until(counted, PATIENCE_S, "requests that are no logins")
    return recorder.status()["outcomes"]


def assert_true_ages(recorder, asked_at):
    not_recorded(recorder, 2)
    wait_until(lambda: len(recorder.rows()) == 3, PATIENCE_S, "three rows")
    found = seen(recorder)
    assert found.keys() == {"198.51.100.1", "198.51.100.2", "198.51.100.5"}
    for address, moment in found.items():
        asked = asked_at - (3 if address == "198.51.100.5" else 0)
        assert asked - SLACK_S < moment < asked + QUEUED_S - 0.5, address


def test_late_started_recorder_gives_logins_their_true_age(activated):
    asked_at = time.time()
    leave_behind(activated)
    time.sleep(max(0.0, asked_at + QUEUED_S + SLACK_S - time.time()))
    activated.start()
    assert_true_ages(activated, asked_at)


def test_recorder_that_was_stopped_gives_logins_their_true_age():
    with Recorder() as recorder:
        recorder.pause()
        asked_at = time.time()
        leave_behind(recorder)
        time.sleep(max(0.0, asked_at + QUEUED_S + SLACK_S - time.time()))
        recorder.resume()
        assert_true_ages(recorder, asked_at)


def test_error_in_the_configuration_at_start_makes_no_login_younger(activated):
    asked_at = time.time()
    leave_behind(activated)
    activated.configure(top="grace = 'soon'")
    with pytest.raises(RuntimeError, match="grace"):
        activated.start()
    (activated.home / "handover").unlink()
    activated.configure(top="")
    time.sleep(max(0.0, asked_at + QUEUED_S + SLACK_S - time.time()))
    activated.start()
    assert_true_ages(activated, asked_at)


def test_request_older_than_grace_is_no_login(activated):
    activated.configure(top="grace = 2", recorder="refresh = 0")
    leave_behind(activated)
    time.sleep(4)
    activated.start()
    outcomes = not_recorded(activated, 5)
    assert (outcomes["too old"], outcomes["hung up"]) == (3, 2)
    assert activated.rows() == {}
    said = [event["error"] for event in activated.events("not_recorded")]
    assert sum("logged in" in one for one in said) == 3
    assert sum("hung up" in one for one in said) == 2


def test_peers_that_still_wait_are_answered_and_recorded_older_than_a_revoke(activated):
    """Dovecot waits up to 60 s; a revoke within them is later than its request."""
    peers = [activated.connect(), activated.connect(activated.postlogin["imap"])]
    peers[0].sendall(old_request("198.51.100.7"))
    peers[1].sendall(dovecot_request("203.0.113.7"))
    asked_at = time.time()
    time.sleep(2)
    activated.start()
    assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"]
    found = seen(activated)
    assert found.keys() == {"198.51.100.7", "203.0.113.7"}
    assert all(asked_at - 65 < moment < asked_at for moment in found.values())


def test_peers_that_wait_for_a_stopped_recorder_are_no_younger_than_its_stop():
    with Recorder() as recorder:
        recorder.pause()
        asked_at = time.time()
        peers = [recorder.connect(), recorder.connect(recorder.postlogin["pop3"])]
        peers[0].sendall(old_request("198.51.100.7"))
        peers[1].sendall(dovecot_request("203.0.113.7"))
        time.sleep(QUEUED_S)
        recorder.resume()
        assert answers(peers) == [b"OK\n", b"alice\thome=/home/alice\n"]
        found = seen(recorder)
        assert found.keys() == {"198.51.100.7", "203.0.113.7"}
        for moment in found.values():
            assert asked_at - SLACK_S < moment < asked_at + 1


def test_prompt_login_is_one_of_now():
    """Rounded up to a second it would lie before a revoke that it follows."""
    with Recorder(recorder="refresh = 0") as recorder:
        time.sleep(2)
        asked_at = time.time()
        wrapper(recorder, "198.51.100.1", "20")
        assert recorder.dovecot_login("198.51.100.2") != b""
        assert recorder.login("198.51.100.3") == ("OK", "")
        # SQLite keeps whole seconds.
        assert min(seen(recorder).values()) >= int(asked_at)


def test_control_requests_of_peers_that_hung_up_are_harmless(activated):
    """A login that they were to undo may have been made again since, and is safe in the spool."""
    for word in (b"revoke", b"renew", b"revoked"):
        hang_up(activated.socket, b"popbsmtp-control/1\t%s\t198.51.100.7\n" % word)
    hang_up(activated.socket, b"popbsmtp-control/1\trevoke\t*\n")
    hang_up(activated.socket, b"popbsmtp-control/1\tstatus\n")
    wrapper(activated, "198.51.100.7", "0.5", config=str(activated.config))
    activated.start()
    wait_until(lambda: "198.51.100.7" in activated.rows(), PATIENCE_S, "the row")
    assert activated.events("unexpected") == []
    assert activated.events("bad_request") == []


def test_clock_of_another_time_namespace_is_not_compared_with_ours():
    with Recorder() as recorder:
        clocks = ((b"1", 0), (b"", 10**18), (b"1", 10**18))
        for number, (clock, boot_ns) in enumerate(clocks):
            address = f"198.51.100.{number}"
            _, _, wall_ns = read_clocks()
            moment = (clock, boot_ns, wall_ns - 5 * 10**9)
            with recorder.connect() as peer:
                asked_at = time.time()
                peer.sendall(format_request(address, b"a", b"", 0, moment))
                assert read_all(peer) == b"OK\n"
            assert asked_at - 5 - SLACK_S < seen(recorder)[address] < asked_at - 3


def test_moment_in_the_future_is_refused():
    with Recorder() as recorder, contextlib.ExitStack() as peers:
        clock, boot_ns, wall_ns = read_clocks()
        ahead = 120 * 10**9
        for moment in ((clock, boot_ns + ahead, wall_ns), (b"1", boot_ns, wall_ns + ahead)):
            peer = peers.enter_context(recorder.connect())
            peer.sendall(format_request("198.51.100.7", b"a", b"", 0, moment))
            assert b"in the future" in read_all(peer)
        assert recorder.rows() == {}


def test_old_wrapper_that_waits_for_its_answer_is_recorded():
    with Recorder() as recorder:
        assert recorder.login("198.51.100.7") == ("OK", "")
        assert recorder.rows() == {"198.51.100.7": "alice"}


def test_wrapper_without_a_wait_is_recorded_by_a_busy_recorder():
    with Recorder() as recorder:
        recorder.pause()
        wrapper(recorder, "198.51.100.7", "0", config=os.devnull)
        time.sleep(0.5)
        recorder.resume()
        wait_until(lambda: recorder.rows() == {"198.51.100.7": "alice"}, PATIENCE_S, "the row")


def test_revoke_stands_whatever_a_stopped_recorder_reads_later():
    with Recorder(recorder="refresh = 0") as recorder:
        revoked = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
        assert recorder.login(revoked[0]) == ("OK", "")
        recorder.pause()
        wrapper(recorder, revoked[0], "0.5")
        wrapper(recorder, revoked[1], "0")
        waiting = recorder.connect(recorder.postlogin["imap"])
        waiting.sendall(dovecot_request(revoked[2]))
        time.sleep(2)
        done = recorder.toolkit("revoke", *revoked)
        assert done.returncode == 75, done.stderr
        assert recorder.rows() == {}
        recorder.resume()
        assert answers([waiting]) == [b"alice\thome=/home/alice\n"]
        assert recorder.login("198.51.100.9") == ("OK", "")
        wait_until(lambda: recorder.status()["waiting"] == 0, PATIENCE_S, "the commits")
        assert recorder.rows().keys() == {"198.51.100.9"}
        # The next login is one of its own.
        for address in revoked:
            assert recorder.login(address) == ("OK", "")
        assert recorder.rows().keys() == {"198.51.100.9", *revoked}
