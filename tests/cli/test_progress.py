"""Progress of a long log, on a terminal: shown, and never between what is printed there."""

import os
import pty
import re
import subprocess

import pytest

from tests.servers.wrap_fixtures import POPBSMTP

LOGIN = (
    "2026-11-21T04:00:00Z mx dovecot: imap-login: Login: user=<alice>, method=PLAIN,"
    " rip=198.51.100.7, lip=192.0.2.1, mpid=77, TLS, session=<abc>\n"
)
MATCHED = "1: login dovecot 198.51.100.7 alice imap 2026-11-21T04:00:00Z"
BAR = re.compile(r"\[[#-]+\]")


@pytest.fixture
def log(tmp_path):
    """A log of several pieces, so that there is progress to show."""
    path = tmp_path / "mail.log"
    path.write_text(LOGIN + ("x" * 99 + "\n") * 50_000)
    return path


def on_terminal(*arguments, output=None):
    """Return (exit status, what the terminal shows, standard output where *output* is a pipe)."""
    ours, theirs = pty.openpty()
    words = [POPBSMTP, *map(str, arguments)]
    with subprocess.Popen(words, stdin=theirs, stdout=output or theirs, stderr=theirs) as process:
        os.close(theirs)
        piped = process.stdout.read().decode() if process.stdout else ""
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # EIO: nobody has it open any more (pty(7))
                break
            shown += data
    os.close(ours)
    return process.returncode, shown.decode(), piped


@pytest.fixture
def watch(tmp_path, log):
    config = tmp_path / "popbsmtp.toml"
    config.write_text(f'[database]\nurl = "sqlite:///{tmp_path}/popbsmtp.db"\n')
    return ["-c", config, "watch", "--reprocess", "--nowrite", log]


def test_match_into_a_file_shows_its_progress(log):
    status, shown, piped = on_terminal("match", log, output=subprocess.PIPE)
    assert (status, piped) == (0, f"{MATCHED}\n")
    assert len(BAR.findall(shown)) > 2
    assert "100%" in shown


@pytest.mark.parametrize("more", [[], ["--explain"], ["--json"]])
def test_match_on_a_terminal_shows_what_it_finds_alone(log, more):
    status, shown, _ = on_terminal("match", *more, log)
    assert status == 0
    assert "198.51.100.7" in shown.splitlines()[0]
    assert BAR.search(shown) is None


def test_an_empty_log_has_no_progress(tmp_path):
    (tmp_path / "empty").touch()
    assert on_terminal("match", tmp_path / "empty", output=subprocess.PIPE) == (1, "", "")


def test_reprocess_shows_its_progress_and_then_the_sum(watch):
    status, shown, _ = on_terminal(*watch)
    assert status == 0
    assert len(BAR.findall(shown)) > 2
    *_, lines, sum_ = shown.splitlines()
    assert lines == "50001 lines, 1 logins, 0 ignored, 0 without a time"
    assert sum_.startswith("1 addresses may relay at 2026-11-21T04:00:00Z")


def test_reprocess_that_prints_logins_on_the_terminal_shows_them_alone(watch):
    status, shown, _ = on_terminal(*watch, "--debug")
    assert status == 0
    assert shown.splitlines()[0] == "2026-11-21T04:00:00Z 198.51.100.7 imap alice dovecot"
    assert BAR.search(shown) is None


def test_reprocess_that_prints_logins_into_a_file_shows_its_progress(watch):
    status, shown, piped = on_terminal(*watch, "--debug", output=subprocess.PIPE)
    assert status == 0
    assert len(piped.splitlines()) == 3
    assert len(BAR.findall(shown)) > 2


def test_without_a_terminal_nothing_is_shown(watch, log):
    for arguments in (watch, ["match", log]):
        words = [POPBSMTP, *map(str, arguments)]
        assert subprocess.run(words, capture_output=True).stderr == b""
