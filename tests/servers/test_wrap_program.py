"""What the program sees that the wrapper execs: everything as if the wrapper were not there."""

import itertools
import os
import signal
import socket
import subprocess

import pytest

from tests.servers.wrap_fixtures import launcher, program, run, seen

LOGIN = {b"IP": b"198.51.100.7", b"USER": b"alice"}
# As Dovecot 1.x starts it: see its mail-process.c, no PATH, no locale.
DOVECOT_1 = {
    **LOGIN,
    b"HOME": b"/",
    b"LOCAL_IP": b"192.0.2.1",
    b"LOGGED_IN": b"1",
    b"RESTRICT_SETUID": b"5000",
    b"RESTRICT_SETGID": b"5000",
    b"RESTRICT_GID_FIRST": b"1",
    b"IMAPLOGINTAG": b"a001",
    b"CLIENT_INPUT": b"YTAwMiBTRUxFQ1QgSU5CT1gNCg==",
    b"LOG_TO_MASTER": b"1",
    b"MYFIELD": b"hello",
}


def environment_of(variables):
    return sorted(name + b"=" + value for name, value in variables.items())


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {b"LANG": b"C"},
        {b"LANG": b""},
        {b"LANG": b"C.UTF-8"},
        {b"LANG": b"de_DE.UTF-8"},
        {b"LC_CTYPE": b"C"},
        {b"LC_CTYPE": b""},
        {b"LC_CTYPE": b"POSIX"},
        {b"LC_CTYPE": b"C.UTF-8"},
        {b"LC_CTYPE": b"UTF-8"},
        {b"LC_CTYPE": b"\xff\xfe"},
        {b"LC_CTYPE": b"x" * 100_000},
        {b"LC_ALL": b"C"},
        {b"LC_ALL": b""},
        {b"LC_ALL": b"C.UTF-8"},
        {b"LC_ALL": b"no_SUCH"},
        {b"LC_ALL": b"", b"LC_CTYPE": b"C", b"LANG": b""},
        {b"LC_ALL": b"C", b"LC_CTYPE": b"C.UTF-8"},
    ],
    ids=lambda locale: ascii(locale)[:40],
)
def test_environment_is_passed_on_byte_for_byte(place, tmp_path, locale):
    hostile = {
        **DOVECOT_1,
        **locale,
        b"EMPTY": b"",
        b"BINARY": bytes(range(1, 256)),
        b"LONG": b"v" * 100_000,
        b"EQUALS": b"=a=b=",
        b"\xff\xfe": b"name",
    }
    ended = run(place.command(*program(tmp_path / "report", b"\xff\xfe", b"")), hostile)
    assert (ended.status, ended.stdout, ended.lines) == (0, b"", [])
    found = seen(tmp_path / "report")
    assert sorted(found.environment) == environment_of(hostile)
    assert found.arguments[-2:] == [b"\xff\xfe", b""]
    assert len(place.rows()) == 1


@pytest.mark.slow
def test_arguments_survive_every_character_set(place, tmp_path):
    """Python decodes by the C library's tables and encodes by its own, and they differ."""
    arguments = [b"a\xa3\xa4\xe4\\\x81~\xff\x8f\xa2\xb7", b"\x80", b"", b"\xe4\xb8\x80", b"--"]
    for name in ("ja_JP.EUC-JP", "zh_HK.BIG5-HKSCS", "de_DE.ISO-8859-15"):
        language, _, charmap = name.partition(".")
        made = tmp_path / name
        subprocess.run(["localedef", "-i", language, "-f", charmap, made], check=True)
        variables = {**LOGIN, b"LOCPATH": os.fsencode(tmp_path), b"LC_ALL": name.encode()}
        report = tmp_path / f"{name}.report"
        ended = run(place.command(*program(report, *arguments)), variables)
        assert (ended.status, ended.lines) == (0, []), name
        assert seen(report).arguments[-5:] == arguments, name


def test_start_as_dovecot_1_does_it(place, tmp_path):
    """Arguments split at single blanks, argv[0] a basename, two more behind, umask 077, no fd 3."""
    line = " ".join(map(str, place.command("/usr/bin/python3"))).split(" ")
    _, *rest = program(tmp_path / "report", b"[alice", b"127.0.0.1]")
    ended = run(
        ["popbsmtp-wrap", *line[1:], *rest],
        DOVECOT_1,
        executable=line[0],
        prepare=lambda: os.umask(0o077),
    )
    assert (ended.status, ended.stdout, ended.lines) == (0, b"", [])
    found = seen(tmp_path / "report")
    assert sorted(found.environment) == environment_of(DOVECOT_1)
    assert found.arguments[-2:] == [b"[alice", b"127.0.0.1]"]
    assert found.pid == ended.pid
    assert found.umask == 0o077
    assert sorted(found.descriptors) == [0, 1, 2]
    assert place.rows() == [("198.51.100.7", "alice", None)]


def test_start_as_script_login_does_it(place, tmp_path):
    """A cleaned environment, descriptor 3 a socket for the reply, a stray pipe, another user."""
    variables = {**LOGIN, b"LOCAL_IP": b"192.0.2.1", b"UID": b"5000", b"GID": b"5000"}
    r, w = os.pipe()
    for end in (r, w):
        os.set_inheritable(end, True)
    ours, theirs = socket.socketpair()
    command = place.command(*program(tmp_path / "report"))

    def prepare():
        os.dup2(theirs.fileno(), 3)

    ended = run(command, variables, prepare=prepare, close_fds=False)
    assert (ended.status, ended.stdout, ended.lines) == (0, b"", [])
    kind, inheritable = seen(tmp_path / "report").descriptors[3]
    assert kind.startswith("socket:")
    assert inheritable
    assert seen(tmp_path / "report").descriptors[w][0].startswith("pipe:")
    theirs.close()
    ours.settimeout(2)
    assert ours.recv(1) == b""
    os.close(r)
    os.close(w)
    assert len(place.rows()) == 1


CLOSED = [numbers for count in range(5) for numbers in itertools.combinations((0, 1, 2, 3), count)]


@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_descriptors_are_passed_on_open_and_closed(place, tmp_path, closed):
    reads, writes = os.pipe()

    def prepare():
        for number in range(4):
            os.dup2(writes, number)
        for number in closed:
            os.close(number)

    command = place.command(*program(tmp_path / "report"))
    ended = run(
        command, LOGIN, prepare=prepare, close_fds=False, pass_fds=(), stdout=writes, stderr=writes
    )
    os.close(writes)
    assert ended.status == 0
    found = {number for number in seen(tmp_path / "report").descriptors if number < 4}
    assert found == {0, 1, 2, 3} - set(closed)
    # End of file at once: nothing else holds the client's socket. And not a byte was written.
    with open(reads, "rb") as pipe:
        assert pipe.read() == b""
    assert len(place.rows()) == 1


def test_working_directory_umask_and_process_are_the_same(place, tmp_path):
    ended = run(
        place.command(*program(tmp_path / "report")),
        LOGIN,
        cwd=tmp_path,
        prepare=lambda: os.umask(0o027),
    )
    found = seen(tmp_path / "report")
    assert (found.cwd, found.umask, found.pid) == (str(tmp_path), 0o027, ended.pid)


def test_blocked_signals_stay_blocked(place, tmp_path):
    blocked = {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM, signal.SIGINT}
    run(
        place.command(*program(tmp_path / "report")),
        LOGIN,
        prepare=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, blocked),
    )
    assert seen(tmp_path / "report").blocked == sum(1 << number - 1 for number in blocked)
    assert len(place.rows()) == 1


INHERITED = (
    *(signal.SIGTERM, signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGALRM),
    *(signal.SIGQUIT, signal.SIGUSR1),
)


@pytest.mark.parametrize("ignored", [(), INHERITED], ids=["default", "ignored"])
@pytest.mark.parametrize("pipe", [signal.SIG_DFL, signal.SIG_IGN], ids=["SIGPIPE", "no SIGPIPE"])
def test_signals_are_inherited_and_sigpipe_is_at_its_default(place, ignored, pipe):
    def prepare():
        for number in INHERITED:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, pipe)

    # cat changes no signal; Python would.
    ended = run(
        place.command("/bin/cat", "/proc/self/status"),
        LOGIN,
        prepare=prepare,
        restore_signals=False,
    )
    status = dict(line.split(":\t", 1) for line in ended.stdout.decode().splitlines())
    # Without 32 and above: glibc's posix_spawn, and so make, ignores those that are its own.
    standard = int(status["SigIgn"], 16) & 0x7FFFFFFF
    assert standard == sum(1 << number - 1 for number in ignored)
    assert int(status["SigCgt"], 16) == 0
    assert ended.lines == []
    assert len(place.rows()) == 1


@pytest.mark.parametrize("status", [0, 1, 64, 111, 255])
def test_exit_status_is_the_programs(place, status):
    ended = run(place.command("/bin/sh", "-c", f"exit {status}"), LOGIN)
    assert (ended.status, ended.lines) == (status, [])


def test_death_by_a_signal_is_the_programs(place):
    ended = run(place.command("/bin/sh", "-c", "kill -9 $$"), LOGIN)
    assert (ended.status, ended.lines) == (-signal.SIGKILL, [])


def test_program_without_a_slash_is_looked_up_in_path(place, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, text in ((first, "one"), (second, "two")):
        folder.mkdir()
        (folder / "both").write_text(f"#!/bin/sh\necho {text}\n")
        (folder / "both").chmod(0o755)
    (first / "both").chmod(0o644)  # cannot be executed: the search goes on
    path = f"{first}:/no/such:{second}"
    ended = run(place.command("both"), {**LOGIN, b"PATH": path.encode()})
    assert (ended.status, ended.stdout, ended.lines) == (0, b"two\n", [])
    here = run(place.command("both"), {b"PATH": b"/no/such:"}, cwd=second)
    assert (here.status, here.stdout) == (0, b"two\n")
    without = run(place.command("true"), LOGIN)
    assert (without.status, without.lines) == (0, [])


@pytest.mark.parametrize("name", ["/no/such/program", "no-such-program", "", "/etc/passwd", "/"])
def test_program_that_cannot_be_executed_gives_111_and_one_line(place, name):
    ended = run(place.command(name, "x"), {**LOGIN, b"PATH": b"/usr/bin"})
    assert ended.status == 111
    (line,) = ended.lines
    assert line.startswith(f"popbsmtp-wrap: cannot execute '{name}': ")


@pytest.mark.parametrize(
    "options", [[], ["--"], ["--wait", "1"], ["--wait"], ["--config=/x", "--"]]
)
def test_without_a_program_the_usage_is_said_and_the_status_is_64(options):
    ended = run([launcher(), *options], LOGIN)
    (line,) = ended.lines
    assert line.startswith("popbsmtp-wrap: usage: popbsmtp-wrap [--config FILE] [--socket PATH]")
    assert (ended.status, ended.stdout) == (64, b"")


def test_launcher_starts_python_isolated_and_without_site_packages():
    with open(launcher(), "rb") as file:
        assert file.readline().endswith(b" -IS\n")
