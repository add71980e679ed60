"""The launcher's text, and which command starts the wrapper."""

import stat
import sys

import pytest

from popbsmtp_wrap.dovecot import configuration
from popbsmtp_wrap.errors import ConfigError, RefusedError
from popbsmtp_wrap.wrapper import installer


def test_launcher_starts_the_interpreter_isolated_and_names_its_package():
    lines = installer.launcher_text("/opt/python", "/opt/it's here").splitlines()
    assert lines[0] == "#!/opt/python -IS"
    assert lines.count('ROOT = "/opt/it\'s here"') == 1
    compile("\n".join(lines), "popbsmtp-wrap", "exec")


def test_launcher_belongs_to_this_interpreter_and_package_by_itself():
    text = installer.launcher_text()
    assert text.startswith(f"#!{sys.executable} -IS\n")
    assert f"ROOT = {installer.package_root()!r}\n" in text


@pytest.mark.parametrize("length", [249, 250])
def test_first_line_is_as_long_as_linux_reads_at_most(length):
    python = "/" + "p" * (length - 1)
    if length + len("#! -IS\n") <= 255:
        assert installer.launcher_text(python).startswith(f"#!{python} -IS\n")
    else:
        with pytest.raises(RefusedError, match="cannot stand in the first line"):
            installer.launcher_text(python)


def test_interpreter_with_a_blank_is_refused():
    with pytest.raises(RefusedError, match="cannot stand in the first line"):
        installer.launcher_text("/opt/my python")


def test_install_replaces_a_launcher_in_one_step(tmp_path):
    path = tmp_path / "popbsmtp-wrap"
    path.write_text("old")
    path.chmod(0o600)
    with path.open() as running:
        installer.install(str(path), "new")
        assert running.read() == "old"
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert list(tmp_path.iterdir()) == [path]


def test_install_into_nowhere_is_refused_with_the_path(tmp_path):
    with pytest.raises(RefusedError, match=r"nowhere/popbsmtp-wrap cannot be written: No such"):
        installer.install(str(tmp_path / "nowhere" / "popbsmtp-wrap"), "text")


def test_install_that_fails_leaves_no_file(tmp_path):
    (tmp_path / "popbsmtp-wrap").mkdir()
    with pytest.raises(RefusedError, match="cannot be written: Is a directory"):
        installer.install(str(tmp_path / "popbsmtp-wrap"), "text")
    assert list(tmp_path.iterdir()) == [tmp_path / "popbsmtp-wrap"]


def test_launcher_beside_the_toolkit_is_the_command(tmp_path):
    path = tmp_path / "popbsmtp-wrap"
    path.write_text(installer.launcher_text())
    assert installer.command_beside(str(tmp_path / "popbsmtp")) == [str(path)]


@pytest.mark.parametrize("text", [None, "", f"#!{sys.executable}\n", "#!/bin/sh\n", "\0\n"])
def test_pips_script_makes_way_for_the_interpreter_itself(tmp_path, text):
    if text is not None:
        (tmp_path / "popbsmtp-wrap").write_text(text)
    command = installer.command_beside(str(tmp_path / "popbsmtp"))
    assert command == [sys.executable, "-IS", installer.source_path()]


def test_dovecot_1_gets_the_interpreter_with_its_directory():
    """It leaves only the name in argv[0], and PATH is a userdb field's."""
    text = configuration.configuration("1", ["/v/python", "-IS", "/v/launch.py"], [], "", "")
    assert "= /usr/bin/env /v/python -IS /v/launch.py /usr/lib/dovecot/imap\n" in text
    text = configuration.configuration("1", ["/usr/local/bin/popbsmtp-wrap"], [], "", "")
    assert "= /usr/local/bin/popbsmtp-wrap /usr/lib/dovecot/pop3\n" in text


@pytest.mark.parametrize("version", configuration.VERSIONS)
@pytest.mark.parametrize("word", ["/opt/my wrapper", "", "tab\there", "/line\nend", "nb\u00a0sp"])
def test_word_that_dovecot_would_split_is_refused(version, word):
    with pytest.raises(ConfigError, match="use another path"):
        configuration.configuration(version, [word], [], "dovecot", "")
