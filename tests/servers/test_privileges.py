"""Files that root makes where another user may write: the attacks are that user's."""

import contextlib
import os
import socket
import stat
import subprocess
import sys

import pytest

from popbsmtp_wrap import safe_files
from popbsmtp_wrap.config import Database, parse
from popbsmtp_wrap.daemon.daemonize import PidFile
from popbsmtp_wrap.errors import PopbsmtpError, RefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.logs.checkpoint import Checkpoint, Positions
from popbsmtp_wrap.server.listeners import Listeners
from popbsmtp_wrap.spool import directory as spool_directory
from popbsmtp_wrap.store import setup, sqlite_files, upsert
from popbsmtp_wrap.store.engine import open_store
from popbsmtp_wrap.watch.log_target import WatchLog
from tests.harness.directories import public_directory

# The user of the recorder, or of the group postfix, gone bad.
ATTACKER = 65534
SECRET = "root's own\n"
LOGIN = Login("198.51.100.7")
# Swaps two names without a pause (renameat2(2), RENAME_EXCHANGE).
_SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.setgid({uid}); os.setuid({uid})
folder, bait = sys.argv[1:]
print("ready", flush=True)
while True:
    for name in os.listdir(folder):
        if not name.startswith((".bait", "bait")):
            libc.renameat2(-100, f"{{folder}}/{{name}}".encode(), -100, bait.encode(), 2)
"""


@pytest.fixture
def secret():
    """A file of root's that nobody else reads."""
    path = public_directory() / "secret"
    path.write_text(SECRET)
    path.chmod(0o604)
    yield path
    status = path.stat()
    assert path.read_text() == SECRET
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, 0, 0o604)


@pytest.fixture
def theirs():
    """A directory of the attacker's."""
    folder = public_directory() / "theirs"
    folder.mkdir()
    os.chown(folder, ATTACKER, ATTACKER)
    return folder


def as_attacker(*words):
    subprocess.run(words, check=True, user=ATTACKER, group=ATTACKER, extra_groups=[])


def link(target, path):
    as_attacker("ln", "-s", str(target), str(path))


def recorder(path, **more):
    return parse({"recorder": {"socket": str(path), "user": "nobody", **more}}, "x").recorder


def listen(path, **more):
    listeners = Listeners({})
    listeners.add(recorder(path, **more))
    return listeners


def database(path):
    return Database(url=f"sqlite:///{path}")


def test_serve_does_not_open_what_its_lock_leads_to(secret, theirs):
    link(secret, theirs / "login.sock.lock")
    with pytest.raises(RefusedError, match=r"login\.sock"):
        listen(theirs / "login.sock")


def test_serve_does_not_change_a_file_with_two_names(secret, theirs):
    # Where fs.protected_hardlinks is off, that user could have made it.
    os.link(secret, theirs / "login.sock.lock")
    with pytest.raises(RefusedError, match="no file of its own"):
        listen(theirs / "login.sock")


def test_serve_replaces_a_link_where_its_socket_belongs_and_not_what_it_leads_to(secret, theirs):
    link(secret, theirs / "login.sock")
    with pytest.raises(RefusedError, match="no socket"):
        listen(theirs / "login.sock")
    link(secret, theirs / "login.sock.new")
    (theirs / "login.sock").unlink()
    listeners = listen(theirs / "login.sock")
    assert (theirs / "login.sock").stat().st_uid == ATTACKER
    listeners.close()


def test_serve_follows_no_directory_of_another_user(secret, theirs):
    link(secret.parent, theirs / "run")
    with pytest.raises(RefusedError, match="follows no symbolic link of user 65534"):
        listen(theirs / "run" / "login.sock")
    assert list(secret.parent.iterdir()) == [secret]


def test_serve_follows_a_link_of_root(theirs):
    (theirs.parent / "run").symlink_to(theirs)
    listen(theirs.parent / "run" / "login.sock").close()


def test_socket_has_its_owner_and_mode_and_nothing_else_stays(theirs):
    path = theirs / "login.sock"
    listeners = listen(path, socket_owner="daemon", socket_group="mail", socket_mode="0620")
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1, 8)
    assert stat.S_IMODE(status.st_mode) == 0o620
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    assert {entry.name for entry in theirs.iterdir()} == {"login.sock", "login.sock.lock"}
    listeners.close()
    assert not path.exists()


def clear(folder):
    """Remove what is in *folder*, whatever takes whose place meanwhile."""
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            path.unlink()
        with contextlib.suppress(OSError):
            path.rmdir()


def test_a_swap_at_any_moment_gives_nothing_of_roots_away(secret, theirs):
    bait = theirs / "bait"
    link(secret, bait)
    program = _SWAP.format(uid=ATTACKER)
    with subprocess.Popen(
        [sys.executable, "-c", program, str(theirs), str(bait)], stdout=subprocess.PIPE
    ) as attacker:
        assert attacker.stdout.readline() == b"ready\n"
        try:
            for _ in range(150):
                with contextlib.suppress(PopbsmtpError):
                    listen(theirs / "login.sock", socket_mode="0666").close()
                with contextlib.suppress(PopbsmtpError):
                    sqlite_files.prepare(database(theirs / "popbsmtp.db"))
                clear(theirs)
                with contextlib.suppress(FileExistsError):
                    os.symlink(secret, bait)
        finally:
            attacker.kill()
    # secret is looked at in its fixture.


def test_init_gives_away_no_file_that_was_there(secret, theirs):
    link(secret, theirs / "popbsmtp.db")
    assert sqlite_files.prepare(database(theirs / "popbsmtp.db")) == []


def test_init_makes_nothing_behind_a_link_of_another_user(secret, theirs):
    link(secret.parent, theirs / "store")
    with pytest.raises(RefusedError, match="follows no symbolic link of user 65534"):
        sqlite_files.prepare(database(theirs / "store" / "popbsmtp.db"))
    with pytest.raises(RefusedError, match="follows no symbolic link of user 65534"):
        sqlite_files.prepare(database(theirs / "store" / "new" / "popbsmtp.db"))
    assert list(secret.parent.iterdir()) == [secret]


def test_root_opens_no_database_behind_a_link_of_another_user(secret, theirs):
    empty = secret.with_name("empty")
    empty.touch()
    link(empty, theirs / "popbsmtp.db")
    store = open_store(database(theirs / "popbsmtp.db"))
    for work in (setup.create, setup.differences, lambda store: upsert.record(store, LOGIN)):
        with pytest.raises(RefusedError, match="follows no symbolic link of user 65534"):
            work(store)
    assert empty.read_bytes() == b""
    assert {path.name for path in secret.parent.iterdir()} == {"secret", "empty"}


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_root_writes_through_no_link_beside_the_database(secret, theirs, suffix):
    sqlite_files.prepare(database(theirs / "popbsmtp.db"))
    store = open_store(database(theirs / "popbsmtp.db"))
    if suffix != "-journal":
        setup.create(store)
    link(secret, theirs / f"popbsmtp.db{suffix}")
    with contextlib.suppress(PopbsmtpError):
        setup.create(store)
        upsert.record(store, LOGIN)


def test_the_spool_is_not_given_away_behind_a_link(secret, theirs):
    link(secret.parent, theirs / "spool")
    spool_directory.prepare(str(theirs / "spool"), "nobody")
    assert secret.parent.stat().st_uid == 0
    link(secret.parent, theirs / "parent")
    with pytest.raises(PopbsmtpError, match="follows no symbolic link"):
        spool_directory.prepare(str(theirs / "parent" / "spool"), "nobody")


def test_a_directory_that_took_the_place_of_the_new_one_is_not_given_away(theirs):
    full = theirs / "full"
    full.mkdir(mode=0o700)
    (full / "mail").touch()
    with safe_files.directory(str(theirs)) as place, pytest.raises(PermissionError):
        safe_files.hand_over_directory(place, "full", 0o777, safe_files.Owner(ATTACKER, ATTACKER))
    link(full, theirs / "link")
    with safe_files.directory(str(theirs)) as place, pytest.raises(NotADirectoryError):
        safe_files.hand_over_directory(place, "link", 0o777, safe_files.Owner(ATTACKER, ATTACKER))
    assert (full.stat().st_uid, stat.S_IMODE(full.stat().st_mode)) == (0, 0o700)


@pytest.mark.parametrize("make_link", [link, os.link])
def test_watch_writes_its_files_to_no_other_file(secret, theirs, make_link):
    make_link(secret, theirs / "watch.pid")
    with pytest.raises(RefusedError, match=r"watch\.pid"):
        PidFile(str(theirs / "watch.pid"))
    make_link(secret, theirs / "lock")
    with pytest.raises(RefusedError):
        Checkpoint(str(theirs))
    (theirs / "lock").unlink()
    state = Checkpoint(str(theirs))
    make_link(secret, theirs / "position.json.new")
    with pytest.raises(OSError, match=r"symbolic links|no file of its own"):
        state.save(Positions({}, "cursor"))
    (theirs / "position.json.new").unlink()
    state.save(Positions({}, "cursor"))
    assert state.load().journal == "cursor"
    state.close()


def test_the_watchers_log_follows_no_link_of_another_user(secret, theirs):
    link(secret, theirs / "watch.log")
    kept = os.dup(2)
    try:
        with pytest.raises(RefusedError, match="follows no symbolic link"):
            WatchLog(str(theirs / "watch.log"), verbose=False)
        (theirs.parent / "log").symlink_to(theirs / "real.log")
        (theirs / "real.log").touch()
        WatchLog(str(theirs.parent / "log"), verbose=False).event("started")
        WatchLog(str(theirs / "new.log"), verbose=False).event("started")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    for name in ("real.log", "new.log"):
        assert "event=started" in (theirs / name).read_text()


def test_a_loop_of_links_ends(theirs):
    for name, target in (("a", "b"), ("b", "a")):
        (theirs / name).symlink_to(target)
    with pytest.raises(OSError, match="Too many levels"):
        safe_files.locate(str(theirs / "a" / "x"))


@pytest.mark.parametrize("path", ["/", "/usr/../usr//bin/.", "/proc/self/cmdline", "/var/run"])
def test_a_path_leads_where_the_kernel_finds_it(path):
    found = safe_files.locate(path)
    status, wanted = os.fstat(found), os.stat(path)
    os.close(found)
    assert (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)


def test_no_descriptor_is_left_open(theirs):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        safe_files.locate(str(theirs / "a" / "x"))
    listen(theirs / "login.sock").close()
    sqlite_files.prepare(database(theirs / "x" / "y" / "popbsmtp.db"))
    assert len(os.listdir("/proc/self/fd")) == before
