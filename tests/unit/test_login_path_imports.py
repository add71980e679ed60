"""What the programs on the login path load: each module costs every login its time."""

import ast
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from popbsmtp_wrap.wire import format_request, read_clocks
from popbsmtp_wrap.wrapper import start_recorder
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
# What a recording process needs of our own before it opens the database.
RECORDING = {
    *(
        "popbsmtp_wrap",
        "popbsmtp_wrap.address",
        "popbsmtp_wrap.wrapper",
        "popbsmtp_wrap.wrapper.start_recorder",
    ),
    *("popbsmtp_wrap.config", "popbsmtp_wrap.config.load", "popbsmtp_wrap.config.sections"),
    "popbsmtp_wrap.logs",
    *("popbsmtp_wrap.errors", "popbsmtp_wrap.login"),
    *("popbsmtp_wrap.networks", "popbsmtp_wrap.logs.site_pattern", "popbsmtp_wrap.logs.header"),
    *("popbsmtp_wrap.config.passwords", "popbsmtp_wrap.recorder", "popbsmtp_wrap.recorder.direct"),
    *("popbsmtp_wrap.spool", "popbsmtp_wrap.spool.directory", "popbsmtp_wrap.spool.files"),
    *("popbsmtp_wrap.spool.record", "popbsmtp_wrap.spool.timestamp", "popbsmtp_wrap.spool.append"),
    *("popbsmtp_wrap.config.parsers", "popbsmtp_wrap.wire", "popbsmtp_wrap.config.database_url"),
    *("popbsmtp_wrap.config.mysql_tls", "popbsmtp_wrap.own_addresses", "popbsmtp_wrap.safe_files"),
}
# And of Python, by the first part of the name; what these load themselves differs by version.
RECORDING_PYTHON = frozenset(
    """
    __future__ _abc _ast _bisect _bz2 _collections _collections_abc _compression _datetime _errno
    _fcntl _functools _hashlib _heapq _locale _lzma _opcode _opcode_metadata _operator
    _posixsubprocess _random _sha2 _sha512 _signal _sitebuiltins _socket _sre _stat _string _struct
    _syslog _thread _tokenize _tracemalloc _typing _warnings _weakref _weakrefset _zlib abc array
    ast bisect calendar collections contextlib copy copyreg dataclasses datetime dis encodings enum
    errno fcntl fnmatch functools genericpath grp importlib inspect io ipaddress itertools keyword
    linecache locale math msvcrt opcode operator org os platform posixpath pwd re reprlib select
    selectors signal site socket stat string struct subprocess syslog threading time token tokenize
    tomllib types typing unicodedata urllib warnings weakref zlib
    """.split()  # noqa: SIM905 - so many words are read more easily as text
)


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


def taken(number):
    """Return a place, once the recording process of an earlier test has left it."""
    deadline = time.monotonic() + start_recorder.LONGEST_RECORDING_S + 5
    while (place := start_recorder.take_place(range(number, number + 1))) is None:
        assert time.monotonic() < deadline, number
        time.sleep(0.05)
    return place


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


def test_wrapper_without_a_recorder_loads_the_fork_besides(tmp_path):
    found, done = wrapper_loads(tmp_path, "--config", "/no/such/file", "--wait", "20")
    assert "/no/such/file does not exist" in done.stderr
    extra = sorted(found - WRAPPER - {"popbsmtp_wrap.wrapper.start_recorder", "select"})
    assert not extra, f"each login without a recorder pays for {extra}; see bench/startup.py"


def test_recording_process_loads_these_modules_before_it_opens_the_database(tmp_path):
    config = tmp_path / "popbsmtp.toml"
    (tmp_path / "spool").mkdir()
    config.write_text(
        f'[database]\nurl = "sqlite:///{tmp_path}/none.db"\n[ignore]\npostfix_mynetworks = false\n'
        f'[recorder]\nspool = "{tmp_path}/spool"\n'
    )
    flags = ("-I", "-B")
    ours, theirs = socket.socketpair()
    # All places are taken, so that it goes to the spool and ends.
    held = [taken(number) for number in range(start_recorder.MOST_TRYING)]
    with ours, theirs:
        command = [sys.executable, *flags, "-X", "importtime", "-c", start_recorder._RECORD]
        ours.sendall(format_request("198.51.100.7", b"alice", b"", moment=read_clocks()))
        arguments = [str(REPOSITORY), str(config), "20", "-1", "spare"]
        found, done = loaded([*command, *arguments], stdin=theirs)
        assert ours.recv(4096) == b"WAIT\t2\nOK\n", done.stderr
    for place in held:
        place.close()
    found -= bare(*flags)
    own = {name for name in found if name.startswith("popbsmtp_wrap")}
    assert sorted(own - RECORDING) == []
    assert sorted(RECORDING - own) == []
    others = {name.partition(".")[0] for name in found - own}
    extra = sorted(others - RECORDING_PYTHON)
    assert not extra, f"each login without a recorder pays for {extra}"


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
        *(f"popbsmtp_wrap.wrapper.{name}" for name in ("wrap", "full_queue", "start_recorder")),
    }
    extra = sorted(imports(path) - C_LEVEL - ours)
    assert not extra, f"{path.name} imports {extra}, which is no C-level module"
