"""What every command does alike: help, version, completion, errors, exit statuses."""

import os
import stat
import subprocess

import click
import pytest

from popbsmtp_wrap import __version__
from popbsmtp_wrap.cli.main import MODULES, popbsmtp

POPBSMTP = os.path.join(os.path.dirname(os.sys.executable), "popbsmtp")


def test_version_is_that_of_the_package():
    done = subprocess.run([POPBSMTP, "--version"], capture_output=True, text=True)
    assert done.stdout == f"popbsmtp, version {__version__}\n"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_command_has_a_short_help_that_begins_with_a_verb(name):
    command = popbsmtp.get_command(click.Context(popbsmtp), name)
    first = command.help.splitlines()[0]
    assert first[0].isupper()
    assert first.endswith(".")
    assert len(first) < 60
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_a_command_does_not_load_the_others():
    program = "import sys; from popbsmtp_wrap.cli.main import main\nimport atexit\n"
    program += "atexit.register(lambda: print(*sorted(sys.modules))); main()"
    command = [os.sys.executable, "-c", program, "expire", "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: popbsmtp expire")
    loaded = {name for name in done.stdout.split() if name.startswith("popbsmtp_wrap.cli.")}
    assert loaded == {f"popbsmtp_wrap.cli.{name}" for name in ("main", "context", "logins")}
    assert not {"asyncio", "sqlalchemy", "popbsmtp_wrap.logs.recogniser"} & set(done.stdout.split())


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
    for name in MODULES:
        assert f"  {name} " in done.stdout + done.stderr


def run(*arguments, **options):
    return subprocess.run([POPBSMTP, *arguments], capture_output=True, text=True, **options)


def configured(tmp_path, url):
    path = tmp_path / "popbsmtp.toml"
    path.write_text(f'[database]\nurl = "{url}"\nconnect_timeout = "1s"\n')
    path.chmod(0o600)
    return str(path)


COMMANDS = (
    ["check", "198.51.100.7"],
    ["list"],
    ["expire"],
    ["revoke", "198.51.100.7"],
    ["record", "198.51.100.7"],
    ["init"],
)
# What is wrong, and the words that say so.
WRONG_URLS = {
    "port": ("mysql://a:b@127.0.0.1:many/x", "database.url"),
    "port of postgresql": ("postgresql://a:b@127.0.0.1:many/x", "database.url"),
    "option": ("mysql://a:b@127.0.0.1:9/x?read_timeout=never", "database.url"),
    "unknown option": ("mysql://a:b@127.0.0.1:9/x?colour=red", "colour"),
    "file": ("mysql://a:b@127.0.0.1:9/x?ssl_ca=/nowhere/ca.pem", "ssl_ca"),
    "option of postgresql": ("postgresql://a:b@127.0.0.1:9/x?colour=red", "colour"),
    "value of postgresql": ("postgresql://a:b@127.0.0.1:9/x?sslmode=perhaps", "sslmode"),
    "driver": ("postgresql+nobody://a:b@127.0.0.1:9/x", "database.url"),
}


@pytest.mark.parametrize("wrong", WRONG_URLS)
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_database_url_that_cannot_work_is_a_configuration_error(tmp_path, command, wrong):
    url, words = WRONG_URLS[wrong]
    done = run("-c", configured(tmp_path, url), *command)
    assert done.returncode == 78, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "popbsmtp init" not in done.stderr
    assert ":b@" not in done.stderr


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_an_unexpected_error_never_ends_as_an_answer(toolkit, monkeypatch, debug):
    monkeypatch.setattr("popbsmtp_wrap.store.queries.remaining_s", lambda *_: 1 / 0)
    done = toolkit(*debug, "check", "198.51.100.7")
    assert done.status == 70
    assert done.err.endswith(
        "popbsmtp: unexpected ZeroDivisionError: division by zero (--debug shows where)\n"
    )
    assert ("Traceback" in done.err) == bool(debug)


def test_an_error_shown_by_debug_keeps_its_status(toolkit):
    toolkit.database.unlink()
    done = toolkit("--debug", "check", "198.51.100.7")
    assert done.status == 78
    assert "Traceback" in done.err


@pytest.mark.parametrize("command", [["check"], ["check", "many.example"], ["nonsense"], ["-x"]])
def test_wrong_usage_ends_with_two(toolkit, command):
    assert toolkit(*command).status == 2


def test_a_full_output_is_no_answer(toolkit):
    toolkit("record", "198.51.100.7")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [POPBSMTP, "-c", str(toolkit.config), "check", "198.51.100.7"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 70
    assert "No space left on device" in done.stderr


def test_a_closed_output_is_no_answer(toolkit):
    toolkit("record", "198.51.100.7")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [POPBSMTP, "-c", str(toolkit.config), "check", "198.51.100.7"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (74, "")
