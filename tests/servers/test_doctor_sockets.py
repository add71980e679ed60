"""popbsmtp doctor and the recorder's sockets: what listens there, and what Dovecot asks."""

import contextlib
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.doctor.sockets import check_sockets
from popbsmtp_wrap.protocols import script_login
from popbsmtp_wrap.protocols.admin import is_control
from popbsmtp_wrap.wire import parse_request
from tests.harness.closing import Closing
from tests.harness.directories import give, public_directory
from tests.harness.faults import HangingUnixSocket, RefusingUnixSocket
from tests.servers.doctor_site import Site
from tests.servers.wrap_fixtures import POPBSMTP

START = "run: systemctl status popbsmtp, or start popbsmtp serve"


class Listener(Closing):
    """A unix socket at *path* that does *behave* with each connection and its first bytes."""

    def __init__(self, path, behave, mode=0o660):
        self._path = Path(path)
        self._behave = behave
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._path.chmod(mode)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection = self._listener.accept()[0]
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                self._behave(connection, connection.recv(4096))

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._path.unlink()


def answer_the_wrapper(connection, request):
    if is_control(request):
        connection.sendall(b"NO\tnobody administrates this one\n")
        return
    address, _, _ = parse_request(request)
    assert address == "127.0.0.1"
    connection.sendall(b"OK\n")


def answer_dovecot(connection, request):
    asked = script_login.parse(request)
    assert asked.remote == "127.0.0.1"
    for byte in asked.reply:
        connection.sendall(bytes([byte]))


def saying(answer):
    return lambda connection, _: connection.sendall(answer)


def trickle(connection, _):
    for _ in range(100):
        connection.sendall(b"O")
        time.sleep(0.05)


def flood(connection, _):
    while True:
        connection.sendall(b"x" * 4096)


@pytest.fixture
def settings():
    folder = public_directory()
    recorder = {"socket": f"{folder}/login.sock", "reply_timeout": 0.1}
    recorder["postlogin"] = [{"path": f"{folder}/imap-postlogin", "service": "imap"}]
    return config.parse({"recorder": recorder}, "popbsmtp.toml")


def findings(settings):
    """Return what doctor says of the wrapper's socket, and of the post-login socket."""
    wrapper, imap = check_sockets(settings)
    return str(wrapper), str(imap)


def test_sockets_that_answer_are_ok(settings):
    wrapper, imap = settings.recorder.sockets
    with Listener(wrapper, answer_the_wrapper), Listener(imap, answer_dovecot):
        assert findings(settings) == (
            f"ok    {wrapper} answers a login",
            f"ok    {imap} answers a login",
        )


@pytest.mark.parametrize(
    ("behave", "wrapper_says", "imap_says"),
    [
        (
            saying(b"NO\tuser 0 may not record logins\n"),
            "it says NO user 0 may not record logins",
            r"it says b'NO\tuser 0 may not record logins\n', so another program listens",
        ),
        (
            saying(b""),
            "it ends the connection without an answer",
            "it ends the connection without an answer",
        ),
        (
            saying(b"HTTP/1.1 400 Bad Request\r\n"),
            r"it says b'HTTP/1.1 400 Bad Request\r\n', so another program listens",
            r"it says b'HTTP/1.1 400 Bad Request\r\n', so another program listens",
        ),
        (
            saying(b"OK"),
            "it says b'OK', so another program listens",
            "it says b'OK', so another program listens",
        ),
        (
            saying(b"popbsmtp-doctor\n"),
            r"it says b'popbsmtp-doctor\n', so another program listens",
            r"it says b'popbsmtp-doctor\n', so another program listens",
        ),
        (trickle, "no answer within 1.1 s", "no answer within 1.1 s"),
        (
            flood,
            f"it says {b'x' * 60!r}, so another program listens",
            f"it says {b'x' * 60!r}, so another program listens",
        ),
    ],
    ids=["NO", "end", "HTTP", "half a line", "no fields", "trickle", "flood"],
)
def test_another_answer_is_named(settings, behave, wrapper_says, imap_says):
    wrapper, imap = settings.recorder.sockets
    with Listener(wrapper, behave), Listener(imap, behave):
        assert findings(settings) == (
            f"FAIL  {wrapper}: {wrapper_says}; {START}",
            f"FAIL  {imap}: {imap_says}; {START}",
        )


def test_silent_sockets_are_given_up(settings):
    wrapper, imap = settings.recorder.sockets
    with HangingUnixSocket(Path(wrapper)), HangingUnixSocket(Path(imap)):
        assert findings(settings) == (
            f"FAIL  {wrapper}: no answer within 1.1 s; {START}",
            f"FAIL  {imap}: no answer within 1.1 s; {START}",
        )


def test_socket_whose_queue_is_full_gives_no_answer(settings):
    wrapper, _ = settings.recorder.sockets
    with contextlib.ExitStack() as open_until_end:
        listener = open_until_end.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(wrapper)
        listener.listen(0)
        waiting = open_until_end.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(wrapper)
        said, _ = findings(settings)
    assert said == f"FAIL  {wrapper}: no answer within 1.1 s; {START}"


def test_sockets_that_nobody_listens_on_are_found(settings):
    wrapper, imap = settings.recorder.sockets
    with RefusingUnixSocket(Path(wrapper)), RefusingUnixSocket(Path(imap)):
        assert findings(settings) == (
            f"FAIL  {wrapper}: nobody listens; {START}",
            f"FAIL  {imap}: nobody listens; {START}",
        )


def test_what_is_no_socket_is_found(settings):
    wrapper, imap = settings.recorder.sockets
    Path(wrapper).touch()
    Path(imap).mkdir()
    assert findings(settings) == (
        f"FAIL  {wrapper} is no socket; remove it and start popbsmtp serve",
        f"FAIL  {imap} is no socket; remove it and start popbsmtp serve",
    )


def test_missing_sockets_are_found(settings):
    wrapper, imap = settings.recorder.sockets
    assert findings(settings) == (
        f"warn  {wrapper} does not exist: no recorder; {START}",
        f"FAIL  {imap} does not exist: no imap login works where Dovecot asks it; {START}",
    )


@pytest.fixture
def site():
    """A Dovecot that asks the sockets; the test plays the recorder's part."""
    made = Site(mode="socket")
    give(made.spool(), "dovecot", mode=0o700)
    with (
        Listener(made.sockets / "login.sock", answer_the_wrapper),
        Listener(made.sockets / "imap-postlogin", answer_dovecot),
        Listener(made.sockets / "pop3-postlogin", answer_dovecot),
    ):
        yield made


def test_dovecot_that_asks_the_sockets_is_ok_from_end_to_end(site):
    status, lines = site.doctor()
    assert status == 0
    for link in (
        f"{site.sockets}/login.sock answers a login",
        f"{site.sockets}/imap-postlogin answers a login",
        f"{site.sockets}/pop3-postlogin answers a login",
        f"spool {site.folder}/spool is right, and nothing waits",
        f"service imap asks {site.sockets}/imap-postlogin",
        f"service pop3 asks {site.sockets}/pop3-postlogin",
    ):
        assert f"ok    {link}" in lines
    assert {line.split()[0] for line in lines} == {"ok"}


def test_doctor_leaves_no_row(site):
    site.doctor()
    assert site.run("list", "--json").stdout.split() == ["[]"]


def test_two_blanks_before_a_socket_are_found(site):
    site.edit_dovecot("executable = pop3 ", "executable = pop3  ")
    (line,) = site.wrong()
    executable = f"pop3  {site.sockets}/pop3-postlogin"
    assert line.startswith(f"FAIL  two blanks in executable = {executable!r}: no login works; ")


def test_one_service_without_a_socket_is_warned_of(site):
    site.edit_dovecot("executable = pop3 .*", "executable = pop3")
    (line,) = site.wrong()
    assert line.startswith("warn  service pop3 has no post-login script or socket; paste what")


def test_socket_of_the_other_service_is_warned_of(site):
    site.edit_dovecot("executable = pop3 .*", f"executable = pop3 {site.sockets}/imap-postlogin")
    (line,) = site.wrong()
    assert line.startswith(
        f"warn  service pop3 asks {site.sockets}/imap-postlogin, whose logins are listed as imap; "
    )


def test_socket_that_the_configuration_does_not_name_is_warned_of(site):
    other = site.folder / "other"
    site.edit_dovecot("executable = pop3 .*", f"executable = pop3 -t 10 {other}")
    (line,) = site.wrong()
    assert line.startswith(f"FAIL  service pop3 asks {other}, which does not exist: no login works")
    with HangingUnixSocket(other):
        (line,) = site.wrong()
    assert line.startswith(
        f"warn  service pop3 asks {other}, which recorder.postlogin does not name; paste what"
    )


def test_dovecot_that_asks_none_of_the_sockets_is_found(site):
    site.edit_dovecot("executable = .*", "executable = true")
    (line,) = site.wrong()
    assert line.startswith(
        "FAIL  Dovecot does not start popbsmtp-wrap, nor does it ask a socket of the recorder;"
        " paste what popbsmtp dovecot prints"
    )


def test_missing_socket_that_dovecot_asks_is_found(site):
    path = site.sockets / "pop3-postlogin"
    path.rename(site.folder / "gone")
    assert site.wrong() == [
        f"FAIL  {path} does not exist: no pop3 login works where Dovecot asks it; {START}"
    ]
    (site.folder / "gone").rename(path)


def test_what_is_closed_for_this_user_needs_root(site):
    command = [POPBSMTP, "-c", site.config, "doctor", "--dovecot-config", site.config]
    done = subprocess.run(command, capture_output=True, text=True, user="nobody", group="nogroup")
    lines = done.stdout.splitlines()
    for path in ("run/login.sock", "run/imap-postlogin", "run/pop3-postlogin", "spool"):
        assert f"warn  {site.folder}/{path} is closed for this user; run this as root" in lines
    assert done.stderr == ""


@pytest.fixture
def wrapping():
    """A Dovecot that starts the wrapper, and a recorder for it."""
    made = Site()
    give(made.spool(), "dovecot", mode=0o700)
    with Listener(made.sockets / "login.sock", answer_the_wrapper):
        yield made


def test_wrapper_that_may_ask_the_recorder_is_ok(wrapping):
    give(wrapping.sockets / "login.sock", "dovecot", mode=0o660)
    status, lines = wrapping.doctor()
    assert status == 0
    who = "ok    dovecot, who runs the wrapper, may"
    assert f"{who} use what it needs" in lines
    assert f"{who} connect to {wrapping.sockets}/login.sock" in lines
    assert {line.split()[0] for line in lines} == {"ok"}


def test_wrapper_that_the_sockets_mode_keeps_out_is_found(wrapping):
    (line,) = wrapping.wrong()
    assert line == (
        f"FAIL  dovecot, who runs the wrapper, may not connect to {wrapping.sockets}/login.sock;"
        " set socket_group or socket_mode of [recorder], and open the directory"
    )


def test_wrapper_that_the_recorder_does_not_know_is_found(wrapping):
    wrapping.edit_config("[database]", "[sessions]\nrenew = 0\n[database]")
    wrapping.edit_config('user = "dovecot"', 'user = "mail"')
    give(wrapping.sockets / "login.sock", "mail", mode=0o666)
    give(wrapping.folder / "spool", "mail", mode=0o700)
    (line,) = wrapping.wrong()
    assert line == (
        "FAIL  dovecot, who runs the wrapper, is not let in by the recorder;"
        " name it in users of [recorder]"
    )
    wrapping.edit_config('user = "mail"', 'user = "mail"\nusers = ["dovecot"]')
    assert wrapping.wrong() == []
