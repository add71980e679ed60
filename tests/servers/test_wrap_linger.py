"""The recorder that the first login starts: one, whatever happens, and no login is lost."""

import contextlib
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from popbsmtp_wrap.recorder.lingering_sockets import names
from popbsmtp_wrap.spool.directory import depth
from popbsmtp_wrap.wire import format_request, read_clocks
from tests.harness.process import wait_until
from tests.servers.linger_place import LingerPlace, squatting
from tests.servers.wrap_fixtures import POPBSMTP, descriptors

# Nobody's.
STRANGER = 54340
OTHER_STRANGER = 54341


@pytest.fixture
def place():
    place = LingerPlace()
    yield place
    place.end()


def address(number):
    return f"198.51.100.{number}"


def test_second_login_is_recorded_by_the_process_that_the_first_has_started(place):
    assert place.login(1).lines == []
    first = place.recorder
    for number in range(2, 6):
        assert place.login(number).lines == []
    assert place.recorder == first
    assert place.addresses() == {address(number) for number in range(1, 6)}


def test_twenty_logins_at_once_start_one_process(place):
    seen = set()
    with ThreadPoolExecutor(20) as clients:
        ended = [clients.submit(place.login, number) for number in range(20)]
        while not all(one.done() for one in ended):
            seen.update(place.recorders)
            time.sleep(0.05)
    assert [one.result().lines for one in ended] == [[]] * 20
    assert len(place.addresses()) == 20
    # A process that is about to exec still looks like its parent, and shows no arguments of ours.
    assert len(seen | set(place.recorders)) == 1


def test_name_that_is_bound_and_not_yet_listened_on_is_waited_for(place):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(place.name())
        timer = threading.Timer(0.5, other.close)
        timer.start()
        assert place.login(1).lines == []
        timer.join()
    assert place.addresses() == {address(1)}


def test_lies_of_another_user_at_our_name_are_not_believed(place):
    with squatting(STRANGER, place.name()):
        (line,) = place.login(1).lines
        assert line.endswith(f"@{place.name()[1:].decode()} belongs to user {STRANGER}")
        assert "198.51.100.1 recorded without the recorder: " in line
        assert place.addresses() == {address(1)}
        # The next name is ours.
        assert len(place.login(2).lines) == 1
        assert len(place.recorders) == 1
    assert place.addresses() == {address(1), address(2)}


def test_another_user_at_all_of_our_names_costs_a_process_for_each_login(place):
    with squatting(STRANGER, *(place.name(number) for number in range(4))):
        for number in (1, 2):
            (line,) = place.login(number).lines
            assert f"198.51.100.{number} recorded without the recorder: " in line
        assert place.addresses() == {address(1), address(2)}
        wait_until(lambda: not place.recorders, 60, "their end")


@pytest.mark.parametrize("full", [False, True], ids=["accepting", "with a full queue"])
def test_process_of_our_own_that_hangs_makes_way_for_another(place, full):
    held = []
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(place.name())
        hanging.listen(0 if full else 100)
        if full:
            held.append(socket.socket(socket.AF_UNIX))
            held[0].connect(place.name())
        (line,) = place.login(1, wait="36").lines
        shown = place.name()[1:].decode()
        assert line.endswith(
            f"recorded without the recorder: no answer from the recorder at @{shown}"
        )
        assert place.addresses() == {address(1)}
        for one in held:
            one.close()


def test_recorder_that_was_stopped_records_what_it_was_sent_when_it_goes_on(place):
    assert place.login(1).lines == []
    stopped = place.recorder
    os.kill(stopped, signal.SIGSTOP)
    before = time.time()
    (line,) = place.login(2, wait="36").lines
    assert "no answer from the recorder" in line
    assert len(place.recorders) == 2
    (other,) = set(place.recorders) - {stopped}
    os.kill(other, signal.SIGSTOP)
    (line,) = place.login(3, wait="1").lines
    assert "198.51.100.3 not recorded: no answer within 1 s; it may still be" in line
    after = time.time()
    time.sleep(3)
    for pid in (stopped, other):
        os.kill(pid, signal.SIGCONT)
    everybody = {address(number) for number in (1, 2, 3)}
    wait_until(lambda: place.addresses() == everybody, 60, "the late row")
    ((seen,),) = place.query("SELECT last_seen FROM popbsmtp WHERE address = '198.51.100.3'")
    # As old as the login, rounded to a second or two, and not as when it was read.
    assert before - 2 <= seen <= after + 1
    time.sleep(2)
    assert place.query("SELECT last_seen FROM popbsmtp WHERE address = '198.51.100.3'") == [(seen,)]


def test_sigkill_under_load_loses_nothing_that_was_acknowledged(place):
    place.spool.mkdir()
    acknowledged = set()
    done = threading.Event()

    def kill():
        kills = 0
        while not done.is_set():
            # However slow the machine is, some logins go well between two of them.
            enough = len(acknowledged) + 3
            wait_until(lambda n=enough: done.is_set() or len(acknowledged) >= n, 120, "logins")
            time.sleep(random.uniform(0, 0.2))
            for pid in place.recorders:
                os.kill(pid, signal.SIGKILL)
                kills += 1
        return kills

    def client(first):
        for number in range(first, first + 12):
            if not place.login(number).lines:
                acknowledged.add(number)

    with ThreadPoolExecutor(5) as threads:
        killer = threads.submit(kill)
        list(threads.map(client, (0, 50, 100, 150)))
        done.set()
        assert killer.result() >= 3
    # The last one drains what its predecessors have spooled.
    assert place.login(250).lines == []
    wait_until(lambda: depth(str(place.spool)).records == 0, 60, "the spool to be drained")
    assert {address(number) for number in acknowledged} <= place.addresses()
    # Most of them find another recorder within their time.
    assert len(acknowledged) >= 24


def test_changed_configuration_counts_from_the_next_login_on(place):
    assert place.login(1).lines == []
    before = place.recorder
    other = place.base / "store" / "other.db"
    subprocess.run(["cp", "-a", place.database, other], check=True)
    place.configure(url=f"sqlite:///{other}")
    assert place.login(2).lines == []
    assert place.addresses() == {address(1)}
    with sqlite3.connect(other) as connection:
        rows = connection.execute("SELECT address FROM popbsmtp").fetchall()
    assert (address(2),) in rows
    # The old one ends when it notices.
    assert set(place.recorders) - {before}


def test_file_of_the_configurations_directory_counts_from_the_next_login_on(place):
    assert place.login(1).lines == []
    before = place.recorder
    directory = place.config.with_suffix(".d")
    directory.mkdir()
    (directory / "site.toml").write_text('[ignore]\nnetworks = ["198.51.100.2/32"]\n')
    for number in (2, 3):
        assert place.login(number).lines == []
    assert place.addresses() == {address(1), address(3)}
    # The old one ends when it notices.
    assert set(place.recorders) - {before}


def test_wrapper_does_not_look_at_the_configuration_itself(place):
    """It may be on a file server that hangs, and then nothing ends a call."""
    assert place.login(1).lines == []
    trace = place.base / "trace"
    strace = ["/usr/bin/strace", "-qq", "-o", str(trace), "-e", "trace=%file"]
    done = subprocess.run(
        [*strace, *place.command("/bin/true")],
        env={"IP": address(2), "USER": "alice"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert place.addresses() == {address(1), address(2)}
    calls = trace.read_text()
    assert "/bin/true" in calls
    # It is an argument, and of the first call alone.
    assert [line for line in calls.splitlines()[1:] if str(place.base) in line] == []


def test_configuration_that_is_broken_is_said_at_the_next_login(place):
    assert place.login(1).lines == []
    place.config.write_text("grace = -1")
    (line,) = place.login(2).lines
    assert "198.51.100.2 not recorded: " in line
    assert "grace: found -1, expected" in line
    place.configure()
    assert place.login(3).lines == []
    assert place.addresses() == {address(1), address(3)}


@pytest.mark.slow
def test_recorder_of_a_configuration_that_was_changed_ends_soon(place):
    assert place.login(1).lines == []
    place.configure('log = "syslog"')
    wait_until(lambda: not place.recorders, 180, "its end")


@pytest.mark.parametrize("linger", ["0", "1s"])
def test_recorder_ends_after_linger_without_a_login(linger):
    place = LingerPlace(linger=linger)
    assert place.login(1).lines == []
    wait_until(lambda: not place.recorders, 60, "its end")
    assert place.addresses() == {address(1)}
    assert place.name().decode() not in names()


def test_database_is_closed_when_the_only_client_of_a_recorder_hears_ok():
    """Whoever closes an SQLite file last locks it, and Postfix takes that for a broken one."""
    place = LingerPlace(linger="0")
    for number in range(5):
        assert place.login(number).lines == []
        held = []
        for pid in place.recorders:
            with contextlib.suppress(FileNotFoundError):  # it has ended
                held += descriptors(pid).values()
        assert [path for path in held if path.startswith(str(place.database))] == []
    place.end()


@pytest.mark.parametrize("linger", ["0", "0.2s"])
def test_login_that_comes_while_a_recorder_ends_is_recorded(linger):
    place = LingerPlace(linger=linger)

    def client(first):
        lines = []
        for number in range(first, first + 15):
            lines += place.login(number).lines
            time.sleep(0.15 + number % 5 / 50)
        return lines

    with ThreadPoolExecutor(3) as clients:
        assert list(clients.map(client, (0, 50, 100))) == [[]] * 3
    assert len(place.addresses()) == 45
    place.end()


def test_two_configurations_have_a_recorder_each(place):
    other = LingerPlace()
    try:
        for number in (1, 2):
            assert place.login(number).lines == []
            assert other.login(number + 100).lines == []
        assert place.recorder != other.recorder
        assert place.addresses() == {address(1), address(2)}
        assert other.addresses() == {address(101), address(102)}
    finally:
        other.end()


def test_two_users_have_a_recorder_each():
    place = LingerPlace(owner=STRANGER)
    for path in (place.database.parent, *place.database.parent.iterdir()):
        path.chmod(0o777 if path.is_dir() else 0o666)
    try:
        for number in (1, 2):
            assert place.login(number, user=STRANGER, group=STRANGER).lines == []
            assert place.login(number + 100, user=OTHER_STRANGER, group=OTHER_STRANGER).lines == []
        owners = {os.stat(f"/proc/{pid}").st_uid for pid in place.recorders}
        assert len(place.recorders) == 2
        assert owners == {STRANGER, OTHER_STRANGER}
        assert len(place.addresses()) == 4
    finally:
        place.end()


def test_other_network_namespace_has_a_recorder_of_its_own(place):
    assert place.login(1).lines == []
    environment = {"IP": address(2), "USER": "alice"}
    command = ["/usr/bin/unshare", "--net", *place.command("/bin/true")]
    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)
    assert done.stderr == b""
    assert len(place.recorders) == 2
    assert place.addresses() == {address(1), address(2)}


def test_login_without_proc_is_recorded(place):
    script = 'mount --make-rprivate / && umount -l /proc && exec "$@"'
    command = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh"]
    environment = {"IP": address(1), "USER": "alice", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [*command, *place.command("/bin/true")],
        env=environment,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert place.addresses() == {address(1)}


def test_other_users_are_refused(place):
    assert place.login(1).lines == []
    request = format_request(address(2), b"eve", b"", moment=read_clocks())
    code = (
        "import contextlib, socket, sys\n"
        "peer = socket.socket(socket.AF_UNIX)\n"
        "peer.connect(b'\\0' + sys.argv[1].encode())\n"
        # The answer may be there, and the end, before the request is sent.
        "with contextlib.suppress(BrokenPipeError):\n"
        "    peer.sendall(sys.argv[2].encode())\n"
        "print(peer.recv(4096).decode(), end='')\n"
    )
    arguments = [place.name()[1:].decode(), request.decode()]
    done = subprocess.run(
        [sys.executable, "-IS", "-c", code, *arguments],
        user=STRANGER,
        group=STRANGER,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith(f"NO\tuser {STRANGER} may not record logins")
    assert place.addresses() == {address(1)}


def test_nothing_of_the_client_is_held(place):
    """The wrapper's client sees its connection end at once: session() asserts that, too."""
    place.login(1)

    def sockets():
        return [one for one in descriptors(place.recorder).values() if one.startswith("socket:")]

    # Where wrappers connect, and the pair that signals wake the event loop by.
    wait_until(lambda: len(sockets()) == 3, 60, "the end of the login's connection")
    found = descriptors(place.recorder)
    assert {found[number] for number in (0, 1, 2)} == {"/dev/null"}
    assert os.readlink(f"/proc/{place.recorder}/cwd") == "/"
    with open(f"/proc/{place.recorder}/environ", "rb") as file:
        assert b"198.51.100.1" not in file.read()


def switches(pid):
    """Return how often the threads of a process have waited for something."""
    count = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as file:
            (line,) = [one for one in file if one.startswith("voluntary_ctxt_switches")]
        count += int(line.split()[1])
    return count


def test_recorder_sleeps_while_nobody_logs_in(place):
    place.spool.mkdir()
    for _ in range(2):
        assert place.login(1).lines == []

    def sleeps():
        before = switches(place.recorder)
        time.sleep(6)
        return switches(place.recorder) - before <= 2

    # The second one was answered from memory: its row is looked for a second later, and once in a
    # while the configuration.
    assert any(sleeps() for _ in range(5))


def test_sigterm_spools_what_waits(place):
    place.spool.mkdir()
    assert place.login(1).lines == []
    pid = place.recorder
    connection = sqlite3.connect(place.database, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with ThreadPoolExecutor(1) as clients:
        ended = clients.submit(place.login, 2)
        time.sleep(0.3)
        os.kill(pid, signal.SIGTERM)
        assert ended.result().lines == []
    connection.close()
    wait_until(lambda: pid not in place.recorders, 60, "its end")
    place.popbsmtp("flush")
    # Another recorder has it if the signal came before the login.
    wait_until(lambda: place.addresses() == {address(1), address(2)}, 60, "both")


def test_spooled_logins_are_drained_when_the_database_is_back(place):
    place.spool.mkdir()
    assert place.login(1).lines == []
    hidden = place.base / "hidden"
    place.database.parent.rename(hidden)
    for number in (2, 3):
        assert place.login(number).lines == []
    hidden.rename(place.database.parent)
    everybody = {address(number) for number in (1, 2, 3)}
    wait_until(lambda: place.addresses() == everybody, 60, "the rows")
    wait_until(lambda: not list(place.spool.iterdir()), 60, "an empty spool")


def test_logins_of_others_that_cannot_be_removed_from_the_spool_keep_no_recorder():
    """In a directory with the sticky bit everybody may write the others' logins into the table."""
    place = LingerPlace(linger="1s", owner=STRANGER)
    for path in (place.database.parent, *place.database.parent.iterdir()):
        path.chmod(0o777 if path.is_dir() else 0o666)
    place.spool.mkdir()
    os.chown(place.spool, 0, STRANGER)
    place.spool.chmod(0o3770)
    hidden = place.base / "hidden"
    place.database.parent.rename(hidden)
    assert place.login(1, user=STRANGER, group=STRANGER).lines == []
    place.end()
    hidden.rename(place.database.parent)
    other = {"user": OTHER_STRANGER, "group": OTHER_STRANGER, "extra_groups": [STRANGER]}
    assert place.login(2, **other).lines == []
    time.sleep(0.5)
    # It stays while it has hopes to empty the spool.
    assert place.login(3, **other).lines == []
    wait_until(lambda: len(place.addresses()) == 3, 60, "the other's login")
    wait_until(lambda: not place.recorders, 180, "its end")
    assert len(list(place.spool.iterdir())) == 1


def test_configuration_that_is_mended_is_read_while_a_login_waits(place):
    """The next login would start another recorder, but it may not come."""
    place.configure(url=f"sqlite:///{place.base}/nothing/popbsmtp.db")
    (line,) = place.login(1).lines
    assert "198.51.100.1 not recorded: " in line
    assert "; still trying in the background; spool " in line
    place.configure()
    wait_until(lambda: place.addresses() == {address(1)}, 60, "the row")


def test_login_after_a_failure_is_recorded_as_soon_as_the_database_is_there(place):
    """Where there is no spool, each login has the database asked again."""
    hidden = place.base / "hidden"
    place.database.parent.rename(hidden)
    assert "not recorded" in place.login(1).lines[0]
    assert "not recorded" in place.login(2).lines[0]
    hidden.rename(place.database.parent)
    assert place.login(3).lines == []
    everybody = {address(number) for number in (1, 2, 3)}
    wait_until(lambda: place.addresses() == everybody, 60, "those that were refused")


@pytest.mark.parametrize("spool", [True, False], ids=["with a spool", "without a spool"])
def test_login_that_is_in_doubt_keeps_no_other_from_the_table(place, spool):
    """Where nothing else shows whether the database takes anything, the next login does."""
    if spool:
        place.spool.mkdir()
    place.query(
        "CREATE TRIGGER ours BEFORE INSERT ON popbsmtp WHEN new.address NOT LIKE '198.51.100.1%'"
        " BEGIN SELECT json_extract('not ours', '$.x'); END"
    )
    lines = place.login(200).lines
    assert lines == [] if spool else "still trying in the background" in lines[0]
    assert place.login(1).lines == []
    wait_until(lambda: place.addresses() == {address(1)}, 60, "the row")
    assert place.login(10).lines == []

    def refused():
        status = json.loads(place.popbsmtp("status", "--json").stdout)
        return status["outcomes"].get("not taken") == 1 and status["spool"]["logins"] == 0

    wait_until(refused, 60, "the end of the doubt")
    assert place.addresses() == {address(1), address(10)}


def counts_after_login(place, **user):
    """Tell whether a login counts. One that waits for a second is older than what was before it."""
    assert place.login(1, **user).lines == []
    return place.popbsmtp("check", address(1)).returncode == 0


def test_login_after_a_revocation_is_written_again(place):
    for _ in range(4):
        wait_until(lambda: counts_after_login(place), 60, "a login that counts")
        done = place.popbsmtp("revoke", address(1))
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
        assert place.popbsmtp("check", address(1)).returncode == 1
    assert len(place.recorders) == 1


def test_revocation_reaches_recorders_of_all_users():
    place, user = LingerPlace(owner=STRANGER), {"user": STRANGER, "group": STRANGER}
    try:
        assert counts_after_login(place, **user)
        assert place.popbsmtp("revoke", address(1)).returncode == 0
        wait_until(lambda: counts_after_login(place, **user), 60, "a login that counts")
    finally:
        place.end()


def test_revocation_that_a_recorder_does_not_confirm_says_so(place):
    assert place.login(1).lines == []
    os.kill(place.recorder, signal.SIGSTOP)
    done = place.popbsmtp("revoke", address(1))
    assert done.returncode == 75
    assert "a login that the recorder has not read yet may come back: " in done.stderr
    assert f"@{place.name()[1:].decode()}" in done.stderr
    os.kill(place.recorder, signal.SIGCONT)
    assert place.popbsmtp("check", address(1)).returncode == 1


def test_revocation_leaves_the_spool_of_another_configuration_alone(place):
    other = LingerPlace()
    try:
        other.spool.mkdir()
        hidden = other.base / "hidden"
        other.database.parent.rename(hidden)
        assert other.login(1).lines == []
        assert place.login(1).lines == []
        assert place.popbsmtp("revoke", "--all").returncode == 0
        hidden.rename(other.database.parent)
        wait_until(lambda: other.addresses() == {address(1)}, 60, "the row")
    finally:
        other.end()


def test_name_of_ours_that_another_user_holds_does_not_delay_a_revocation(place):
    assert place.login(1).lines == []
    with squatting(STRANGER, place.name(1), kind="hang"):
        done = place.popbsmtp("revoke", address(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_status_shows_the_recorder_that_a_login_has_started(place):
    none = place.popbsmtp("status")
    assert none.returncode == 69
    assert place.login(1).lines == []
    shown = place.popbsmtp("status")
    assert shown.returncode == 0
    lines = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert lines["pid"] == str(place.recorder)
    assert lines["outcomes.committed"] == "1"
    assert (lines["linger.configuration"], lines["linger.seconds"]) == (str(place.config), "600.0")


def test_flush_and_a_recorder_share_the_spool(place):
    place.spool.mkdir()
    assert place.login(1).lines == []
    hidden = place.base / "hidden"
    place.database.parent.rename(hidden)
    assert place.login(2).lines == []
    hidden.rename(place.database.parent)
    flushed = place.popbsmtp("flush")
    assert flushed.returncode == 0
    wait_until(lambda: len(place.addresses()) == 2, 60, "the row")
    wait_until(lambda: not list(place.spool.iterdir()), 60, "an empty spool")


def test_resident_recorder_takes_over_and_leaves_again(place):
    place.spool.mkdir()
    path = f"{place.base}/login.sock"
    place.configure(f'socket = "{path}"\nuser = ""')
    assert place.login(1).lines == []
    command = [POPBSMTP, "-c", str(place.config), "serve"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as resident:
        try:
            wait_until(lambda: os.path.exists(path), 60, "the socket")

            def login(number):
                environment = {"IP": address(number), "USER": "alice"}
                wrapper = place.command("--socket", path, "/bin/true")
                done = subprocess.run(wrapper, env=environment, capture_output=True, check=True)
                return done.stderr.decode()

            assert login(2) == ""
            assert f'"pid": {resident.pid}' in place.popbsmtp("status", "--json").stdout
            # Both remember this address.
            assert place.popbsmtp("revoke", address(1), address(2)).returncode == 0
            # One that waits for a second is older than the revocation just before it.
            counts = lambda: place.popbsmtp("check", address(1)).returncode == 0  # noqa: E731
            wait_until(lambda: login(1) == "" and counts(), 60, "a login that counts")
        finally:
            resident.terminate()
    assert "recorded without the recorder" in login(3)
    assert place.addresses() >= {address(1), address(3)}
    assert len(place.recorders) == 1
