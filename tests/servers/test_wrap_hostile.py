"""A hostile environment, directory or userdb field changes nothing."""

import socket

import pytest

from tests.harness.directories import public_directory
from tests.servers.wrap_fixtures import GREETING, LOGIN, RECORDED, run, session

_EVIL = """#!/usr/bin/python3
import os
os.system("touch {mark}")
os.write(1, b"evil")
os._exit(3)
"""


@pytest.fixture
def trap():
    """Return a directory full of what Python or a shell might pick up, and the mark it leaves."""
    path = public_directory()
    modules = (
        *("sitecustomize", "usercustomize", "socket", "_socket", "posix", "errno", "select", "os"),
        *("sqlite3", "sqlalchemy", "psycopg2", "tomllib", "popbsmtp_wrap", "startup", "encodings"),
    )
    for name in modules:
        (path / f"{name}.py").write_text(_EVIL.format(mark=path / "mark"))
    for name in ("python", "python3", "python3.11", "env", "sh", "postconf"):
        (path / name).write_text(_EVIL.format(mark=path / "mark"))
        (path / name).chmod(0o755)
    (path / "popbsmtp.toml").write_text('[database]\nurl = "sqlite:////nonexistent/evil.db"\n')
    (path / "pyvenv.cfg").write_text("home = /nonexistent\n")
    (path / ".pgpass").write_text("*:*:*:*:wrong\n")
    return path


def hostile(trap):
    return {
        "PYTHONPATH": str(trap),
        "PYTHONSTARTUP": str(trap / "startup.py"),
        "PYTHONHOME": str(trap),
        "PYTHONWARNINGS": "error,always::evil",
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONDEBUG": "1",
        "PYTHONMALLOC": "nonsense",
        "PYTHONUTF8": "nonsense",
        "PYTHONIOENCODING": "nonsense",
        "PYTHONCOERCECLOCALE": "warn",
        "PYTHONFAULTHANDLER": "1",
        "PYTHONPLATLIBDIR": str(trap),
        "PYTHONUSERBASE": str(trap),
        "PYTHONEXECUTABLE": str(trap / "python3"),
        "PYTHONBREAKPOINT": "startup.evil",
        "PYTHONHASHSEED": "nonsense",
        "__PYVENV_LAUNCHER__": str(trap / "python3"),
        "POPBSMTP_CONFIG": str(trap / "popbsmtp.toml"),
        "POPBSMTP_SOCKET": str(trap / "login.sock"),
        "PATH": str(trap),
        "HOME": str(trap),
        "TMPDIR": str(trap),
        "SHELL": str(trap / "sh"),
        "SQLITE_TMPDIR": str(trap),
        "MAIL_CONFIG": str(trap),
        "LOCPATH": str(trap),
        "LANGUAGE": "evil",
        "ENV": str(trap / "startup.py"),
        "BASH_ENV": str(trap / "startup.py"),
        "SERVICE": "evil",
        "WAIT": "50",
        "TZ": ":" + str(trap),
    }


def test_each_hostile_variable_alone_changes_nothing(place, trap):
    for name, value in hostile(trap).items():
        place.clear()
        ended = session(place.command(*GREETING), {**LOGIN, name: value}, cwd=trap)
        assert ended.lines == [], name
        assert place.rows() == RECORDED, name
    assert not (trap / "mark").exists()


def test_all_hostile_variables_together_change_nothing(place, trap):
    ended = session(place.command(*GREETING), {**LOGIN, **hostile(trap)}, cwd=trap)
    assert ended.lines == []
    assert place.rows() == RECORDED
    assert not (trap / "mark").exists()


def test_default_configuration_and_socket_cannot_be_moved_by_the_environment(place, trap):
    command = [place.command()[0], *GREETING]
    (line,) = session(command, {**LOGIN, **hostile(trap)}, cwd=trap).lines
    assert "/etc/popbsmtp/popbsmtp.toml does not exist" in line
    assert not (trap / "mark").exists()


def test_a_recorder_elsewhere_hears_nothing(place, trap):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(trap / "login.sock"))
        listener.listen()
        listener.setblocking(False)
        session(place.command(*GREETING), {**LOGIN, **hostile(trap)}, cwd=trap)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_program_is_still_looked_up_in_the_path_that_was_given(place, trap):
    """Which is what execvp(3) does; Dovecot gives the mail program with its directory."""
    ended = run(place.command("python3"), {**LOGIN, "PATH": str(trap)})
    assert (ended.status, ended.stdout) == (3, b"evil")
    assert place.rows() == RECORDED
