"""What the programs on the login path load: each module costs every login its time."""

import ast
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from popbsmtp_wrap.wire import format_request, read_clocks
from popbsmtp_wrap.wrapper import linger
from tests.harness.machine import REPOSITORY

PACKAGE = REPOSITORY / "popbsmtp_wrap"
LOGIN_PATH = [
    # installer.py writes the launcher, and runs with the toolkit.
    *sorted({*(PACKAGE / "wrapper").glob("*.py")} - {PACKAGE / "wrapper" / "installer.py"}),
    *sorted((PACKAGE / "chain").glob("*.py")),
    PACKAGE / "wire.py",
    PACKAGE / "address.py",
]
# Built into Python or a shared library of it; the launcher's message after a failed upgrade may use
# more, as nothing is left to save then.
C_LEVEL = {
    *("_signal", "_socket", "_struct", "errno", "posix", "select", "sys", "time"),
}
WRAPPER = {
    *("_socket", "time", "popbsmtp_wrap", "popbsmtp_wrap.wrapper", "popbsmtp_wrap.wrapper.wrap"),
    *("popbsmtp_wrap.address", "popbsmtp_wrap.wire"),
}


def loaded(command, **options):
    """Return the modules that a program loads beyond the interpreter itself, and its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    names = re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr, re.MULTILINE)
    # What is built into the interpreter costs nothing.
    return set(names) - set(sys.builtin_module_names), done


def bare(*flags):
    return loaded([sys.executable, *flags, "-X", "importtime", "-c", "pass"])[0]


def wrapper_loads(tmp_path, *options):
    """Return what popbsmtp-wrap loads beyond `python -I -S` until it execs."""
    command = [
        sys.executable,
        "-I",
        "-S",
        "-X",
        "importtime",
        str(PACKAGE / "wrapper" / "launch.py"),
        *options,
    ]
    environment = {"IP": "198.51.100.7", "USER": "alice"}
    found, done = loaded([*command, "/bin/true"], env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return found - bare("-I", "-S"), done


@pytest.fixture
def recorder(tmp_path):
    """A socket whose queue takes what comes; nobody answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "login.sock"))
        listener.listen()
        yield listener


def test_wrapper_with_a_recorder_loads_these_modules_and_no_other(tmp_path, recorder):
    # Without a wait there is no need of an answer.
    found, done = wrapper_loads(tmp_path, "--socket", str(tmp_path / "login.sock"), "--wait", "0")
    assert recorder.accept()[0].recv(4096).startswith(b"popbsmtp/1\t198.51.100.7\talice\t")
    assert "recorded" not in done.stderr
    extra = sorted(found - WRAPPER)
    assert not extra, f"each login pays for {extra}; see bench/startup.py"
    assert found >= {name for name in WRAPPER if name.startswith("popbsmtp_wrap")}


def test_wrapper_without_a_resident_recorder_loads_one_module_more(tmp_path):
    config = tmp_path / "popbsmtp.toml"
    config.write_text('unknown = "key"\n')
    found, done = wrapper_loads(tmp_path, "--config", str(config), "--wait", "20")
    assert f"{config}: unknown: unknown key" in done.stderr
    extra = sorted(found - WRAPPER - {"popbsmtp_wrap.wrapper.linger", "select"})
    assert not extra, f"each login without a recorder pays for {extra}; see bench/startup.py"


@pytest.fixture
def started(tmp_path):
    """Return a function that gives what a recorder loads until it has answered one login."""

    def start(url):
        config = tmp_path / "popbsmtp.toml"
        config.write_text(
            f'[database]\nurl = "{url}"\n[ignore]\npostfix_mynetworks = false\n'
            f'[recorder]\nspool = "{tmp_path}/spool"\n[wrapper]\nlinger = "0"\n'
        )
        (tmp_path / "spool").mkdir()
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as peer:
            listener.bind("")
            listener.listen()
            peer.connect(listener.getsockname())
            peer.sendall(format_request("198.51.100.7", b"alice", b"", moment=read_clocks()))
            flags = ("-I", "-B", "-X", "importtime", "-c", linger._RECORD)
            command = [sys.executable, *flags, str(REPOSITORY), str(config), "linger"]
            found, done = loaded(command, stdin=listener)
            answer = peer.makefile("rb").read()
        assert answer.endswith(b"OK\n"), (answer, done.stderr)
        return found - bare("-I", "-B")

    return start


def test_recorder_that_a_login_starts_loads_no_toolkit(started, tmp_path):
    """The first login waits for each of its imports."""
    found = started(f"sqlite:///{tmp_path}/none.db")
    unneeded = {
        *("click", "sqlite3.dump", "psycopg2", "pymysql"),
        *("popbsmtp_wrap.cli", "popbsmtp_wrap.doctor", "popbsmtp_wrap.postfix"),
        *("popbsmtp_wrap.recorder.service", "popbsmtp_wrap.recorder.session_renewal"),
        *("popbsmtp_wrap.recorder.renewals", "popbsmtp_wrap.store.renewal"),
        *("popbsmtp_wrap.store.setup", "popbsmtp_wrap.dovecot"),
    }
    assert sorted(found & unneeded) == []
    assert "popbsmtp_wrap.store.batch" in found


def imports(path):
    """Return the modules that a file imports, wherever in it, but for type checkers."""
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or ".")
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("path", LOGIN_PATH, ids=lambda path: path.name)
def test_login_path_imports_c_level_modules_alone(path: Path):
    ours = {
        *("popbsmtp_wrap.address", "popbsmtp_wrap.wire", "popbsmtp_wrap.wrapper"),
        *(f"popbsmtp_wrap.wrapper.{name}" for name in ("wrap", "full_queue", "linger")),
    }
    extra = sorted(imports(path) - C_LEVEL - ours)
    assert not extra, f"{path.name} imports {extra}, which is no C-level module"
