"""What `popbsmtp dovecot` says beside the configuration it prints."""

import os
import stat

import pytest


def test_a_configuration_that_the_wrapper_could_not_read_is_warned_of(toolkit):
    toolkit.config.chmod(0o600)
    done = toolkit("dovecot", "--user", "nobody")
    assert done.status == 0
    assert "script-login" in done.out
    assert f"popbsmtp: nobody, who runs the wrapper, may not read {toolkit.config}" in done.err


def test_a_user_that_is_not_there_is_warned_of(toolkit):
    done = toolkit("dovecot", "--user", "no-such-user")
    assert "there is no user no-such-user: no login works; run: adduser" in done.err


def test_the_wrapper_is_installed_and_named(toolkit, tmp_path):
    path = tmp_path / "popbsmtp-wrap"
    done = toolkit("dovecot", "--install-wrapper", str(path))
    assert f"script-login {path} --service imap --config {toolkit.config} --\n" in done.out
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755
    assert path.read_text().splitlines()[0].endswith(" -IS")


def add_sockets(toolkit, *sockets):
    tables = (
        f'[[recorder.postlogin]]\npath = "{path}"\nservice = "{service}"\n'
        for path, service in sockets
    )
    with toolkit.config.open("a") as file:
        file.writelines(tables)


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_every_socket_of_the_configuration_is_printed(toolkit, version):
    add_sockets(
        toolkit,
        ("/run/popbsmtp/imap", "imap"),
        ("/run/popbsmtp/pop3", "pop3"),
        ("/run/popbsmtp/sieve", "managesieve"),
    )
    done = toolkit("dovecot", "--for", version, "--mode", "socket")
    assert done.status == 0
    lines = [line for line in done.out.splitlines() if not line.startswith("#")]
    assert lines == [
        "service imap {",
        "  executable = imap /run/popbsmtp/imap",
        "}",
        "service pop3 {",
        "  executable = pop3 /run/popbsmtp/pop3",
        "}",
        "service managesieve {",
        "  executable = managesieve /run/popbsmtp/sieve",
        "}",
    ]
    assert "A mailbox does not open while nobody listens on its socket" in done.out


def test_without_sockets_the_lines_to_add_are_said_and_they_are_enough(toolkit):
    toolkit.config.write_text(
        f'{toolkit.config.read_text()}[recorder]\nsocket = "/run/mail/login.sock"\n'
    )
    done = toolkit("dovecot", "--mode", "socket")
    assert (done.status, done.out) == (78, "")
    message, tables = done.err.split("\n\n", 1)
    assert message == f"popbsmtp: {toolkit.config} names no post-login socket; add:"
    with toolkit.config.open("a") as file:
        file.write(tables)
    done = toolkit("dovecot", "--mode", "socket")
    assert done.status == 0
    assert "executable = pop3 /run/mail/pop3-postlogin\n" in done.out


def test_sockets_that_are_not_there_are_warned_of(toolkit, tmp_path):
    (tmp_path / "imap").touch()
    add_sockets(toolkit, (tmp_path / "imap", "imap"), (tmp_path / "pop3", "pop3"))
    done = toolkit("dovecot", "--mode", "socket")
    said = [line for line in done.err.splitlines() if "does not exist" in line]
    expected = (
        f"popbsmtp: {tmp_path}/pop3 does not exist: no pop3 login works while nobody listens"
        " there; start popbsmtp serve before Dovecot reads this"
    )
    assert said == [expected]


@pytest.mark.parametrize(
    ("sockets", "message"),
    [
        (
            [("/run/a b", "imap")],
            "'/run/a b' holds a blank, and Dovecot knows no quotes; use another path",
        ),
        (
            [("/one", "imap"), ("/two", "imap")],
            "recorder.postlogin: two sockets for service imap, and Dovecot uses one: /one, /two",
        ),
    ],
    ids=["blank", "twice"],
)
def test_sockets_that_dovecot_could_not_use_are_refused(toolkit, sockets, message):
    add_sockets(toolkit, *sockets)
    done = toolkit("dovecot", "--mode", "socket")
    assert (done.status, done.out, done.err) == (78, "", f"popbsmtp: {message}\n")
