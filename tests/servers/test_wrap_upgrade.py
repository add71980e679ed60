"""An upgrade half-way: the package is missing or broken, the mailbox opens."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import popbsmtp_wrap
from tests.harness.directories import public_directory
from tests.servers.wrap_fixtures import (
    GREETING,
    LOGIN,
    RECORDED,
    SLACK_S,
    run,
    session,
)

WAIT_S = 2.0


@pytest.fixture
def path():
    return public_directory()


def copied_package(path):
    """Return a launcher, with the copy of the package that it starts."""
    package = path / "library" / "popbsmtp_wrap"

    shutil.copytree(Path(popbsmtp_wrap.__file__).parent, package)
    program = path / "popbsmtp-wrap"
    module = "popbsmtp_wrap.wrapper.installer"
    argv = [sys.executable, "-I", "-m", module, program, sys.executable, package.parent]
    subprocess.run(argv, check=True)
    return str(program), package


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".", None),
        ("wrapper/wrap.py", None),
        ("wrapper/wrap.py", "def main(:"),
        ("wrapper/wrap.py", "raise RuntimeError('two\\nlines')"),
        ("wrapper/linger.py", None),
        ("wrapper/linger.py", ""),
        ("address.py", ""),
        ("wire.py", "1/0"),
        ("recorder/lingering.py", None),
        ("recorder/lingering.py", "def main(:"),
        ("config/load.py", ""),
        ("store/engine.py", ""),
        ("store", None),
    ],
)
def test_program_runs_while_the_package_is_replaced(place, path, file, text):
    program, package = copied_package(path)
    if text is not None:
        (package / file).write_text(text)
    elif (package / file).is_dir():
        shutil.rmtree(package / file)
    else:
        (package / file).unlink()
    options = ["--config", str(place.config), "--wait=2", "--"]
    ended = session([program, *options, *GREETING], LOGIN)
    (line,) = ended.lines
    assert "not recorded: " in line
    assert len(line) > len("popbsmtp-wrap: not recorded: ")
    assert ended.seconds < WAIT_S + SLACK_S


def test_launcher_from_before_the_package_was_rearranged_records(place, path):
    program, _ = copied_package(path)
    text = Path(program).read_text()
    assert "from popbsmtp_wrap.wrapper.wrap import" in text
    Path(program).write_text(text.replace("popbsmtp_wrap.wrapper.wrap", "popbsmtp_wrap.chain.wrap"))
    options = ["--config", str(place.config), "--wait=20", "--"]
    assert session([program, *options, *GREETING], LOGIN).lines == []
    assert place.rows() == RECORDED


@pytest.mark.parametrize("kind", ["full", "closed"])
def test_program_runs_without_package_and_standard_error(path, kind):
    program, package = copied_package(path)
    shutil.rmtree(package)
    _, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while kind == "full":
            os.write(writes, b"x" * 4096)
    os.set_blocking(writes, True)
    close = (lambda: os.close(2)) if kind == "closed" else None
    session([program, *GREETING], LOGIN, stderr=writes, prepare=close, timeout_s=20)


@pytest.mark.parametrize(
    ("arguments", "status"), [(["/no/such/program"], 111), ([], 64), (["--wait", "1", "--"], 64)]
)
def test_exit_statuses_are_the_same_without_package(path, arguments, status):
    program, package = copied_package(path)
    shutil.rmtree(package)
    ended = run([program, *arguments], LOGIN)
    assert (ended.status, ended.stdout) == (status, b"")
    assert len(ended.lines) == 1
