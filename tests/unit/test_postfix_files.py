"""Writing Postfix's files: modes, owners, in one step."""

import grp
import os
import stat

import pytest

from popbsmtp_wrap.errors import ConfigError, RefusedError
from popbsmtp_wrap.postfix import map_files
from popbsmtp_wrap.postfix.maps import MapFile

SECRET = MapFile("popbsmtp-pgsql.cf", "password\n", secret=True)
OPEN = MapFile("popbsmtp-main.cf", "lines\n")


def test_a_secret_file_is_for_postfixs_group_only(tmp_path):
    (path,) = map_files.write([SECRET], str(tmp_path))
    status = os.stat(path)
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_uid == os.geteuid()
    if os.geteuid() == 0:
        assert grp.getgrgid(status.st_gid).gr_name == "postfix"


def test_other_files_are_for_everybody_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        (path,) = map_files.write([OPEN], str(tmp_path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_writing_replaces_in_one_step_and_leaves_nothing_beside(tmp_path):
    path = tmp_path / SECRET.name
    path.write_text("old\n")
    with path.open() as reader:
        assert list(map_files.write([SECRET, OPEN], str(tmp_path))) == [
            str(path),
            str(tmp_path / OPEN.name),
        ]
        assert reader.read() == "old\n"
    assert path.read_text() == SECRET.text
    assert sorted(os.listdir(tmp_path)) == sorted([SECRET.name, OPEN.name])


def test_a_file_that_cannot_be_replaced_stays_and_says_so(tmp_path):
    (tmp_path / SECRET.name / "inside").mkdir(parents=True)
    with pytest.raises(RefusedError, match="cannot be written: Is a directory"):
        list(map_files.write([SECRET], str(tmp_path)))
    assert os.listdir(tmp_path) == [SECRET.name]


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RefusedError, match="cannot be written: No such file or directory"):
        list(map_files.write([SECRET], str(tmp_path / "missing")))


def test_a_file_that_postfix_may_not_read_comes_with_the_command_to_type(tmp_path):
    path = tmp_path / SECRET.name
    path.touch(0o640)
    os.chown(path, -1, 65534 if os.geteuid() == 0 else -1)
    assert map_files.owners_hint(str(path)) == (
        f"Postfix may not read {path} yet; run as root: chown root:postfix {path}"
    )
    path.chmod(0o644)
    assert map_files.owners_hint(str(path)) == ""


def test_a_map_that_is_not_there_is_a_matter_of_configuration(tmp_path):
    path = tmp_path / "popbsmtp-pgsql.cf"
    with pytest.raises(ConfigError) as missing:
        map_files.ask("192.0.2.1", f"pgsql:{path}")
    assert str(missing.value) == f"{path} does not exist; run: popbsmtp postfix --output DIR"
