"""The name at which a recorder listens that a login has started."""

import os
import posix
import subprocess
import sys
from types import SimpleNamespace

import pytest

from popbsmtp_wrap.wrapper import linger

# sun_path, unix(7).
_LONGEST = 108 - 1


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "popbsmtp.toml"
    path.write_text("grace = 1800\n")
    return path


def name(path):
    return linger._name(linger._absolute(os.fsencode(path)))


def test_name_is_that_of_user_and_path_whatever_the_file_says(config, tmp_path, monkeypatch):
    found = name(config)
    assert found.startswith(b"\0popbsmtp-recorder-%x-%%d-" % os.geteuid())
    config.unlink()
    assert name(config) == found
    assert name(config.with_name("other.toml")) != found
    monkeypatch.chdir(tmp_path)
    assert name(config.name) == found
    monkeypatch.setattr(posix, "geteuid", lambda: 4711)
    assert name(config) != found


@pytest.mark.parametrize("call", ["stat", "readlink"])
def test_other_roots_namespaces_and_versions_have_other_names(config, monkeypatch, call):
    found = {name(config)}
    if call == "readlink":
        monkeypatch.setattr(posix, "readlink", lambda _: b"mnt:[1]")
        found.add(name(config))
        monkeypatch.setattr(posix, "readlink", missing)
        assert len({*found, name(config)}) == 3
        return
    real = posix.stat
    for changed in ("/", linger.__file__.replace("linger.py", "wrap.py")):
        other = SimpleNamespace(st_dev=1, st_ino=2, st_mtime_ns=3)
        stat = lambda path, c=changed, o=other: o if path == c else real(path)  # noqa: E731
        monkeypatch.setattr(posix, "stat", stat)
        found.add(name(config))
    assert len(found) == 3


def missing(_):
    raise FileNotFoundError


def test_name_is_the_same_in_every_process(config):
    code = (
        "import sys, os; from popbsmtp_wrap.wrapper import linger;"
        " print(linger._name(os.fsencode(sys.argv[1])).hex())"
    )
    for _ in range(2):
        command = [sys.executable, "-c", code, config]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert bytes.fromhex(done.stdout) == name(config)


def test_longest_name_fits(config, monkeypatch):
    monkeypatch.setattr(posix, "geteuid", lambda: 2**32 - 2)
    assert 30 < len(name(config) % 3) <= _LONGEST
