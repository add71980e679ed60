"""What every command does alike: help, version, completion, errors, exit statuses."""

import os
import stat
import subprocess

import click
import pytest

from popbsmtp_wrap import __version__
from popbsmtp_wrap.cli.main import popbsmtp

POPBSMTP = os.path.join(os.path.dirname(os.sys.executable), "popbsmtp")


def test_version_is_that_of_the_package():
    done = subprocess.run([POPBSMTP, "--version"], capture_output=True, text=True)
    assert done.stdout == f"popbsmtp, version {__version__}\n"


@pytest.mark.parametrize("name", sorted(popbsmtp.commands))
def test_every_command_has_a_short_help_that_begins_with_a_verb(name):
    command = popbsmtp.commands[name]
    first = command.help.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert len(first) < 60
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_is_printed(shell):
    done = subprocess.run(
        [POPBSMTP],
        capture_output=True,
        text=True,
        env={**os.environ, "_POPBSMTP_COMPLETE": f"{shell}_source"},
    )
    assert "_popbsmtp_completion" in done.stdout or "_POPBSMTP_COMPLETE" in done.stdout


def test_completion_completes_commands():
    done = subprocess.run(
        [POPBSMTP],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "_POPBSMTP_COMPLETE": "bash_complete",
            "COMP_WORDS": "popbsmtp re",
            "COMP_CWORD": "1",
        },
    )
    assert done.stdout.split() == ["plain,record", "plain,renew", "plain,revoke"]


def test_a_missing_database_says_to_init(toolkit):
    toolkit.database.unlink()
    for command in (["check", "198.51.100.7"], ["record", "198.51.100.7"], ["list"], ["expire"]):
        done = toolkit(*command)
        assert done.status == 78
        assert done.err.endswith("unable to open database file; run: popbsmtp init\n")
    assert not toolkit.database.exists()


def test_a_missing_table_says_to_init(toolkit):
    toolkit.config.write_text(
        toolkit.config.read_text().replace("[ignore]", 'table = "auth"\n[ignore]')
    )
    done = toolkit("check", "198.51.100.7")
    assert done.status == 78
    assert done.err.endswith("no such table: auth; run: popbsmtp init\n")


def test_a_file_that_is_no_database_is_left_alone(toolkit):
    toolkit.database.write_text("Dear diary, today I was not a database. " * 30)
    done = toolkit("init")
    assert done.status == 78
    assert "file is not a database" in done.err
    assert toolkit.database.read_text().startswith("Dear diary")


def test_an_error_shows_no_traceback_without_debug(toolkit):
    toolkit.database.unlink()
    assert "Traceback" not in toolkit("list").err


def test_debug_shows_where_it_happened(tmp_path):
    done = subprocess.run(
        [POPBSMTP, "--debug", "-c", str(tmp_path / "none.toml"), "list"],
        capture_output=True,
        text=True,
    )
    assert "Traceback" in done.stderr


def test_init_makes_files_that_the_writer_and_postfix_share(toolkit, tmp_path):
    toolkit.config.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/new/deep/popbsmtp.db"\n')
    done = toolkit("init")
    assert done.status == 0
    directory, database = tmp_path / "new/deep", tmp_path / "new/deep/popbsmtp.db"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o2770
    assert stat.S_IMODE(database.stat().st_mode) == 0o660
    assert directory.group() == database.group() == "postfix"
    assert done.out.splitlines()[-1] == "created table popbsmtp"
    assert toolkit("init").out == "table popbsmtp is right\n"


def test_a_reader_that_goes_away_is_no_error(toolkit):
    for n in range(1, 200):
        toolkit("record", f"198.51.100.{n}")
    done = subprocess.run(
        f"{POPBSMTP} -c {toolkit.config} list --json | head -c 10",
        shell=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""


def test_a_bare_call_shows_the_commands():
    done = subprocess.run([POPBSMTP], capture_output=True, text=True)
    for name in popbsmtp.commands:
        assert f"  {name} " in done.stdout + done.stderr
