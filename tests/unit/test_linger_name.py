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
    return linger._name(os.fsencode(path))


def test_name_is_the_same_while_nothing_changes(config):
    assert name(config) == name(config)
    assert name(config).startswith(b"\0popbsmtp-recorder-%x-%%d-" % os.geteuid())


def test_name_changes_with_content_time_and_file(config):
    before = {name(config)}
    config.write_text("grace = 18000\n")
    before.add(name(config))
    os.utime(config, ns=(0, 1))
    before.add(name(config))
    other = config.with_name("other")
    other.write_text("grace = 18000\n")
    os.utime(other, ns=(0, 1))
    before.add(name(other))
    other.rename(config)
    before.add(name(config))
    assert len(before) == 4
    assert name(config) in before


def test_name_changes_with_the_files_of_the_directory(config):
    names = [name(config)]

    def changed():
        names.append(name(config))
        return names.count(names[-1]) == 1

    directory = config.with_suffix(".d")
    directory.mkdir()
    (directory / ".10-site.toml.swp").write_text("")
    (directory / ".hidden.toml").write_text("")
    assert not changed()
    (directory / "10-site.toml").write_text('grace = "20m"\n')
    assert changed()
    (directory / "10-site.toml").write_text('grace = "200m"\n')
    assert changed()
    (directory / "20-other.toml").write_text("")
    assert changed()
    (directory / "20-other.toml").rename(directory / "00-other.toml")
    assert changed()
    os.utime(directory / "00-other.toml", ns=(0, 1))
    assert changed()
    (directory / "00-other.toml").unlink()
    assert name(config) == names[-4]


def test_name_is_the_same_in_every_process(config):
    config.with_suffix(".d").mkdir()
    (config.with_suffix(".d") / "10-site.toml").write_text("")
    code = (
        "import sys, os; from popbsmtp_wrap.wrapper import linger;"
        " print(linger._name(os.fsencode(sys.argv[1])).hex())"
    )
    for _ in range(2):
        command = [sys.executable, "-c", code, config]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert bytes.fromhex(done.stdout) == name(config)


def test_longest_name_fits(config, monkeypatch):
    most = 2**64 - 1
    status = SimpleNamespace(
        st_dev=most, st_ino=most, st_size=most, st_mtime=most, st_mtime_ns=most
    )
    monkeypatch.setattr(posix, "stat", lambda _: status)
    monkeypatch.setattr(posix, "geteuid", lambda: 2**32 - 2)
    assert 80 < len(name(config) % 3) <= _LONGEST


def test_missing_file_has_no_name(tmp_path):
    with pytest.raises(FileNotFoundError):
        name(tmp_path / "none")
