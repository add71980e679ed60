"""What `popbsmtp dovecot` prints for versions that are not here: split as Dovecot splits it."""

import re
import subprocess

import pytest

from tests.harness.directories import public_directory
from tests.harness.dovecot import Dovecot
from tests.servers.recorder_place import POST_LOGIN
from tests.servers.wrap_fixtures import POPBSMTP, Place, launcher, program, run, seen

# As Dovecot 1.x starts it: no PATH, no locale, root's rights for imap to drop.
DOVECOT_1 = {
    "USER": "alice",
    "HOME": "/",
    "IP": "198.51.100.7",
    "LOCAL_IP": "192.0.2.1",
    "LOGGED_IN": "1",
    "RESTRICT_SETUID": "5000",
    "RESTRICT_SETGID": "5000",
    "IMAPLOGINTAG": "a001",
}


@pytest.fixture
def place():
    return Place(public_directory())


def printed(place, *arguments):
    argv = [POPBSMTP, "-c", place.config, "dovecot", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("version", "mode"),
    [
        ("1", "wrapper"),
        ("2.3", "wrapper"),
        ("2.4", "wrapper"),
        ("2.3", "socket"),
        ("2.4", "socket"),
    ],
)
def test_no_line_holds_two_blanks_behind_its_indentation(place, version, mode):
    with open(place.config, "a") as file:
        file.write(POST_LOGIN)
    for line in printed(place, "--for", version, "--mode", mode).splitlines():
        assert re.search(r"\S\s\s", line) is None, line
        assert line == line.rstrip()
        assert "\t" not in line


def test_dovecot_reads_the_configuration_with_sockets_as_it_is_meant(place):
    with open(place.config, "a") as file:
        file.write(POST_LOGIN)
    dovecot = Dovecot(public_directory(), postlogin=printed(place, "--mode", "socket"))
    dovecot.prepare()
    read = dovecot.doveconf()
    for service in ("imap", "pop3"):
        section = (
            f"service {service} {{\n  executable = {service} /run/popbsmtp/{service}-postlogin\n"
        )
        assert section in read


ANVIL = """\
service anvil {
  unix_listener anvil {
    user = mail
  }
}
"""


@pytest.mark.parametrize("mode", ["wrapper", "socket"])
@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_the_recorders_user_may_ask_for_open_sessions(place, version, mode):
    with open(place.config, "a") as file:
        file.write(POST_LOGIN + '[sessions]\nrenew = "1s"\n')
    text = place.config.read_text()
    place.config.write_text(text.replace("[recorder]", '[recorder]\nuser = "mail"'))
    assert printed(place, "--for", version, "--mode", mode).endswith(ANVIL)


def test_dovecot_starts_without_the_recorders_user(place):
    """It does not with a user in its configuration that does not exist."""
    with open(place.config, "a") as file:
        file.write(POST_LOGIN)
    text = place.config.read_text()
    place.config.write_text(text.replace("[recorder]", '[recorder]\nuser = "nosuchuser"'))
    argv = [POPBSMTP, "-c", place.config, "dovecot", "--mode", "socket"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    assert "anvil" not in done.stdout
    assert "popbsmtp: there is no user nosuchuser, whom Dovecot has to let ask" in done.stderr


@pytest.mark.parametrize("renew", ["0", '"off"'])
def test_who_renews_nothing_asks_for_nothing(place, renew):
    with open(place.config, "a") as file:
        file.write(f"{POST_LOGIN}[sessions]\nrenew = {renew}\n")
    text = place.config.read_text()
    place.config.write_text(text.replace("[recorder]", '[recorder]\nuser = "mail"'))
    assert "anvil" not in printed(place, "--mode", "socket")


@pytest.mark.parametrize(("version", "user"), [("2.3", "$"), ("2.4", "$SET:")])
def test_wrapper_runs_as_dovecots_own_user(place, version, user):
    text = printed(place, "--for", version)
    assert text.count(f"  user = {user}default_internal_user\n") == 2
    for service in ("imap", "pop3"):
        assert f"  executable = {service} {service}-postlogin\n" in text
        assert f" --service {service} " in text


def test_other_user_is_taken_over(place):
    assert printed(place, "--user", "vmail").count("  user = vmail\n") == 2


@pytest.mark.parametrize("service", ["imap", "pop3"])
@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("path", [None, "/tmp/evil"])
def test_dovecot_1_line_works_split_at_single_blanks(place, tmp_path, service, installed, path):
    """argv[0] loses its directory; PATH is missing, or what a userdb field says (child-process.c).

    Without the launcher the line starts the interpreter itself.
    """
    options = ["--wrapper", launcher()] if installed else []
    text = printed(place, "--for", "1", *options)
    (line,) = re.findall(rf"mail_executable = (.*/{service})$", text, re.MULTILINE)
    words = line.split(" ")
    assert words[-1] == f"/usr/lib/dovecot/{service}"
    (tmp_path / service).symlink_to("/usr/bin/python3")
    _, *arguments = program(tmp_path / "report", "[alice", "127.0.0.1]")
    environment = DOVECOT_1 if path is None else {**DOVECOT_1, "PATH": path}
    ended = run(
        [words[0].rpartition("/")[2], *words[1:-1], str(tmp_path / service), *arguments],
        environment,
        executable=words[0],
    )
    assert (ended.status, ended.lines) == (0, [])
    assert place.rows() == [("198.51.100.7", "alice", service)]
    found = seen(tmp_path / "report")
    assert sorted(found.environment) == sorted(f"{k}={v}".encode() for k, v in environment.items())
    assert found.arguments[-2:] == [b"[alice", b"127.0.0.1]"]
    assert found.pid == ended.pid
