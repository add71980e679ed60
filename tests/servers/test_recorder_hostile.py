"""Peers that say what they should not, stop half-way or may not come in."""

import array
import contextlib
import os
import re
import select
import socket
import time
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popbsmtp_wrap.wire import format_request
from tests.harness.process import wait_until
from tests.servers.recorder_load import next_address
from tests.servers.recorder_peers import (
    LONGEST_WAITS,
    OPEN_TO_ALL,
    connect_as,
    descriptor_count,
    held_database,
    recorded,
)
from tests.servers.recorder_place import (
    PATIENCE_S,
    SERVICES,
    Recorder,
    dovecot_request,
    read_all,
)

HONEST = "192.0.2.1"
LONGEST_LINE = 4096
LONGEST_REQUEST = 32768
# What hostile peers may make a recorder log; "unexpected" is not among it.
EVENTS = {"started", "bad_request", "connection_dropped", "not_recorded", "peer_refused"}


@pytest.fixture(scope="module")
def recorder():
    with Recorder(recorder=f'{OPEN_TO_ALL}\nusers = ["daemon"]') as running:
        yield running


@pytest.fixture(scope="module")
def patient():
    """A recorder that waits for its database as long as a test holds it."""
    with Recorder(**LONGEST_WAITS) as running:
        yield running


@pytest.fixture(params=["wrapper", "postlogin"])
def path(request, recorder):
    return recorder.socket if request.param == "wrapper" else recorder.postlogin["imap"]


def request_at(path, address):
    if path.name == "login.sock":
        return format_request(address, b"alice", b"imap")
    return dovecot_request(address)


def reply_at(path):
    return b"OK\n" if path.name == "login.sock" else b"alice\thome=/home/alice\n"


def assert_serving(recorder):
    """A login on each socket is answered."""
    assert recorder.login(HONEST) == ("OK", "")
    for service in SERVICES:
        assert recorder.dovecot_login(HONEST, service=service) == b"alice\thome=/home/alice\n"


def assert_log_is_sound(recorder):
    assert {event["event"] for event in recorder.events()} <= EVENTS


def dropped(recorder, why):
    return recorder.status()["dropped"].get(why, 0)


def answer_to(peer, data, is_complete):
    """What comes back for *data*; without the end of a request, nothing follows it."""
    with peer:
        with contextlib.suppress(ConnectionError):
            peer.sendall(data)
            if not is_complete:
                peer.shutdown(socket.SHUT_WR)
        return read_all(peer)


def line_ended(data):
    return b"\n" in data or len(data) > LONGEST_LINE


def lines_ended(data):
    return data.count(b"\n") > 1 or len(data) > LONGEST_REQUEST


addresses = st.one_of(st.ip_addresses().map(str), st.sampled_from(["", "*", "198.51.100.0/24"]))
line_requests = st.builds(format_request, addresses, st.binary(max_size=40), st.binary(max_size=10))
dovecot_requests = st.builds(
    dovecot_request,
    addresses,
    st.text("aé%\1\t=", max_size=20),
    st.text("aé\0\r\1\t=", max_size=40),
)
control_lines = st.builds(
    lambda word, arguments: "\t".join(["popbsmtp-control/1", word, *arguments]).encode() + b"\n",
    st.sampled_from(["status", "revoke", "revoked", "stop", ""]),
    st.lists(addresses, max_size=3),
)


@st.composite
def mutated(draw, requests):
    """A request in which a piece was replaced, repeated or left out, or bytes were put in."""
    data = draw(requests)
    start = draw(st.integers(0, len(data)))
    end = draw(st.integers(start, min(len(data), start + 20)))
    known = [b"", b"\t", b"\n", b"\0", b"%", b"\xff", b"\1", data, data[start:end]]
    piece = draw(st.one_of(st.binary(max_size=4), st.sampled_from(known)))
    return data[:start] + piece + data[end:]


valid_requests = st.one_of(line_requests, dovecot_requests, control_lines)
anything = st.one_of(st.binary(max_size=200), valid_requests, mutated(valid_requests))


def names(request):
    """The address that a request names, in another program's words."""
    with contextlib.suppress(ValueError):
        found = ip_address(request.decode("ascii", "replace"))
        return {str(getattr(found, "ipv4_mapped", None) or found)}
    return set()


def assert_no_other_rows(recorder, named):
    """Only what valid requests named is in the table, spelt as another library spells it."""
    assert {str(ip_address(address)) for address in recorded(recorder)} <= named | {HONEST}


def test_bytes_that_are_no_request_cost_the_wrappers_socket_one_connection(recorder):
    valid = re.compile(rb"popbsmtp/1\t([0-9A-Fa-f.:]+)\t[!-~]*\t[!-~]*\n")
    control = re.compile(rb"popbsmtp-control/1\t(status|revoked?\t[0-9A-Fa-f.:\t*]+)\n")
    before = recorded(recorder)
    named = set()

    @settings(max_examples=400)
    @given(anything)
    def ask(data):
        answer = answer_to(recorder.connect(), data, line_ended(data))
        if re.fullmatch(rb"OK(\t[ -~]*)?\n", answer):
            login = valid.fullmatch(data)
            assert login or control.fullmatch(data)
            if login:
                named.update(names(login[1]))
        else:
            assert answer == b"" or re.fullmatch(rb"NO\t[ -~]+\n", answer)
            assert bool(answer) == line_ended(data)
        assert_serving(recorder)

    ask()
    assert named
    assert_no_other_rows(recorder, named | before)
    assert_log_is_sound(recorder)


def test_bytes_that_are_no_request_cost_a_post_login_socket_one_connection(recorder):
    valid = re.compile(
        rb"VERSION\tscript-login\t1\t[0-9]+\n[^\t\n]*\t([^\t\n]*)\t([^\t\n]+(?:\t[^\n]*)?\n)"
    )
    before = recorded(recorder)
    named = set()

    @settings(max_examples=400)
    @given(anything)
    def ask(data):
        reply = answer_to(recorder.connect(recorder.postlogin["imap"]), data, lines_ended(data))
        if reply:
            request = valid.fullmatch(data)
            assert request
            assert reply == request[2]
            named.update(names(request[1]))
        assert_serving(recorder)

    ask()
    assert named
    assert_no_other_rows(recorder, named | before)
    assert_log_is_sound(recorder)


def test_every_valid_request_of_dovecot_is_answered(recorder):
    @settings(max_examples=100)
    @given(
        st.binary(max_size=300).map(lambda fields: fields.replace(b"\n", b"")),
    )
    def ask(fields):
        request = dovecot_request(HONEST, more="").removesuffix(b"\n") + fields + b"\n"
        with recorder.connect(recorder.postlogin["pop3"]) as peer:
            peer.sendall(request)
            assert read_all(peer) == b"alice\t" + fields + b"\n"

    ask()


@settings(max_examples=100)
@given(st.one_of(control_lines, mutated(control_lines)))
def test_control_lines_of_a_user_without_rights_are_refused(recorder, line):
    answer = answer_to(connect_as("daemon", recorder.socket), line, line_ended(line))
    assert re.fullmatch(rb"NO\t[ -~]+\n", answer) if line_ended(line) else answer == b""


def test_control_words_are_for_root_and_the_recorders_user_alone():
    with Recorder(becomes="daemon", recorder=f'{OPEN_TO_ALL}\nusers = ["mail"]') as recorder:
        for user in ("root", "daemon"):
            with connect_as(user, recorder.socket) as peer:
                peer.sendall(b"popbsmtp-control/1\tstatus\n")
                assert read_all(peer).startswith(b"OK\t{")
        uid = 8
        for request in (b"status", b"revoke\t*", b"revoked\t198.51.100.7"):
            with connect_as("mail", recorder.socket) as peer:
                peer.sendall(b"popbsmtp-control/1\t%b\n" % request)
                told = b"NO\tuser %d is not root or the recorder's user\n" % uid
                assert read_all(peer) == told
        with connect_as("mail", recorder.socket) as peer:
            peer.sendall(format_request(HONEST, b"", b""))
            assert read_all(peer) == b"OK\n"


def test_peers_that_are_not_allowed_are_refused_and_logged_twenty_times_in_ten_seconds(recorder):
    assert dropped(recorder, "refused") == 0
    for _ in range(300):
        with connect_as("nobody", recorder.socket) as peer:
            with contextlib.suppress(ConnectionError):
                peer.sendall(format_request("198.51.100.66", b"", b""))
            told = b"NO\tuser 65534 may not record logins, see recorder.users\n"
            assert read_all(peer) == told
        with connect_as("nobody", recorder.postlogin["imap"]) as peer:
            with contextlib.suppress(ConnectionError):
                peer.sendall(dovecot_request("198.51.100.66"))
            assert read_all(peer) == b""
    assert dropped(recorder, "refused") == 600
    refusals = recorder.events("peer_refused")
    assert len(refusals) == 20
    assert {(event["uid"], event["socket"]) for event in refusals} == {
        ("65534", "wrapper"),
        ("65534", "postlogin-imap"),
    }
    assert_serving(recorder)
    assert "198.51.100.66" not in recorded(recorder)


def test_who_may_record_is_as_the_configuration_says_after_a_reload():
    with Recorder(recorder=OPEN_TO_ALL) as recorder:

        def ask():
            with connect_as("mail", recorder.socket) as peer:
                with contextlib.suppress(ConnectionError):
                    peer.sendall(format_request("198.51.100.7", b"", b""))
                return read_all(peer)

        assert ask().startswith(b"NO\tuser 8 may not")
        recorder.configure(recorder=f'{OPEN_TO_ALL}\nusers = ["mail"]')
        assert recorder.hup()["event"] == "reloaded"
        assert ask() == b"OK\n"
        recorder.configure(recorder=OPEN_TO_ALL)
        assert recorder.hup()["event"] == "reloaded"
        assert ask().startswith(b"NO\tuser 8 may not")


@pytest.mark.parametrize("length", [LONGEST_LINE - 1, LONGEST_LINE])
def test_a_line_up_to_the_limit_is_served(recorder, length):
    line = b"popbsmtp/1\t198.51.100.9\t" + b"u" * (length - 26) + b"\t\n"
    assert len(line) == length
    assert answer_to(recorder.connect(), line, is_complete=True) == b"OK\n"
    assert recorder.rows()["198.51.100.9"] == "u" * 255


@pytest.mark.parametrize("length", [LONGEST_LINE + 1, LONGEST_LINE + 2, 3 * LONGEST_LINE, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"x"])
def test_a_longer_line_is_refused(recorder, length, end):
    line = b"popbsmtp/1\t198.51.100.10\t" + b"u" * (length - 27) + b"\t" + end
    assert len(line) == length
    answer = answer_to(recorder.connect(), line, is_complete=True)
    assert answer.startswith(b"NO\tno complete line in ")
    assert_serving(recorder)
    assert "198.51.100.10" not in recorded(recorder)


def long_dovecot_request(address, length):
    """Fields with all that is escaped, and every byte that a field may hold."""
    field = b"\tmail=\1t\1n\1r\0010\0011" + bytes(set(range(1, 256)) - {10})
    start = dovecot_request(address, more="home=/").removesuffix(b"\n")
    return (start + field * (length // len(field) + 1))[: length - 1] + b"\n"


@pytest.mark.parametrize("length", [LONGEST_REQUEST - 1, LONGEST_REQUEST])
def test_fields_up_to_the_limit_come_back_as_they_were(recorder, length):
    request = long_dovecot_request("198.51.100.11", length)
    assert len(request) == length
    reply = answer_to(recorder.connect(recorder.postlogin["imap"]), request, is_complete=True)
    assert reply == request.split(b"\n", 1)[1].split(b"\t", 2)[2]
    assert "198.51.100.11" in recorded(recorder)


@pytest.mark.parametrize("length", [LONGEST_REQUEST + 1, 1 << 20])
@pytest.mark.parametrize("end", [b"\n", b"x"])
def test_a_longer_request_of_dovecot_is_refused(recorder, length, end):
    request = long_dovecot_request("198.51.100.12", length)[:-1] + end
    assert answer_to(recorder.connect(recorder.postlogin["imap"]), request, True) == b""
    assert_serving(recorder)
    assert "198.51.100.12" not in recorded(recorder)


def test_a_request_in_single_bytes_is_served(recorder, path):
    with recorder.connect(path) as peer:
        for byte in request_at(path, HONEST):
            peer.sendall(bytes([byte]))
            time.sleep(0.001)
        assert read_all(peer) == reply_at(path)


def test_a_request_in_two_halves_is_served(recorder, path):
    request = request_at(path, HONEST)
    with recorder.connect(path) as peer:
        peer.sendall(request[:20])
        time.sleep(0.3)
        assert_serving(recorder)
        peer.sendall(request[20:])
        assert read_all(peer) == reply_at(path)


def test_two_requests_in_one_write_are_none(recorder, path):
    both = request_at(path, "198.51.100.13") + request_at(path, "198.51.100.14")
    answer = answer_to(recorder.connect(path), both, is_complete=True)
    assert answer.startswith(b"NO\tnot a ") if path == recorder.socket else answer == b""
    assert not {"198.51.100.13", "198.51.100.14"} & recorded(recorder)


def test_a_peer_that_leaves_half_way_is_counted(recorder, path):
    before = dropped(recorder, "incomplete")
    for end in (1, 10, -1):
        with recorder.connect(path) as peer:
            peer.sendall(request_at(path, "198.51.100.15")[:end])
    wait_until(lambda: dropped(recorder, "incomplete") == before + 3, PATIENCE_S, "the ends")
    assert "198.51.100.15" not in recorded(recorder)
    assert_serving(recorder)


def test_a_peer_that_takes_no_answer_is_recorded(recorder, path):
    for address in ("198.51.100.16", HONEST):
        with recorder.connect(path) as peer:
            # The answer fails with EPIPE.
            peer.shutdown(socket.SHUT_RD)
            peer.sendall(request_at(path, address))
            wait_until(lambda: "198.51.100.16" in recorded(recorder), PATIENCE_S, "the row")
    assert_serving(recorder)
    assert_log_is_sound(recorder)


@pytest.mark.parametrize("count", [1, 253])  # SCM_MAX_FD, unix(7)
def test_descriptors_that_come_along_are_closed_at_once(recorder, path, count):
    request = request_at(path, HONEST)
    before = descriptor_count(recorder)
    reading, writing = os.pipe()
    with recorder.connect(path) as peer, open(reading, "rb", buffering=0) as pipe:
        rights = array.array("i", [writing] * count)
        # With the first byte, as Dovecot does, and again behind it.
        for part in (request[:1], request[1:20]):
            peer.sendmsg([part], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        os.close(writing)
        assert select.select([pipe], [], [], PATIENCE_S)[0]
        assert pipe.read(1) == b""
        assert descriptor_count(recorder) == before + 1
        peer.sendall(request[20:])
        assert read_all(peer) == reply_at(path)
    assert descriptor_count(recorder) == before


@pytest.fixture(params=["wrapper", "postlogin"])
def slow_path(request, patient):
    return patient.socket if request.param == "wrapper" else patient.postlogin["imap"]


@contextlib.contextmanager
def waiting_login(recorder, path):
    """A connection whose login waits for the database; it is in the table afterwards."""
    address = next_address()
    with recorder.connect(path) as peer:
        with held_database(recorder):
            peer.sendall(request_at(path, address))
            wait_until(lambda: recorder.status()["waiting"] == 1, PATIENCE_S, "the login")
            yield peer
        wait_until(lambda: address in recorded(recorder), PATIENCE_S, "the row")


def test_the_answer_comes_when_the_database_has_the_login_and_not_before(patient, slow_path):
    with waiting_login(patient, slow_path) as peer:
        assert not select.select([peer], [], [], 0.3)[0]
        kept = peer.dup()
    with kept:
        assert read_all(kept) == reply_at(slow_path)


@pytest.mark.parametrize("more", [b"x", b"\n", bytes(1 << 16)], ids=["byte", "line", "64 kB"])
def test_more_behind_a_request_ends_the_connection_and_keeps_the_login(patient, slow_path, more):
    before = dropped(patient, "more after the request")
    with waiting_login(patient, slow_path) as peer:
        with contextlib.suppress(ConnectionError):
            peer.sendall(more)
        assert read_all(peer) == b""
        assert dropped(patient, "more after the request") == before + 1


def test_a_peer_that_leaves_before_its_answer_makes_room_and_keeps_the_login(patient, slow_path):
    before = patient.status()["connections"]
    with waiting_login(patient, slow_path) as peer:
        assert patient.status()["connections"] == before + 1
        peer.close()
        wait_until(lambda: patient.status()["connections"] == before, PATIENCE_S, "room")
