"""match: what it prints of a log, and how it ends."""

import json
import os

import pytest

LOGIN = "Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[::ffff:198.51.100.7], port=[1]"
LOGOUT = "Jun 14 10:09:00 mx imapd: LOGOUT, user=bob, ip=[::ffff:198.51.100.7], time=3"
FAILURE = "Jun 14 10:00:00 mx imapd: LOGIN FAILED, user=bob, ip=[::ffff:203.0.113.9]"
ISO = (
    "2026-01-02T03:04:05.678+02:00 mx dovecot: pop3-login: Logged in: user=<carol>, method=PLAIN, "
    "rip=2001:DB8::7, lip=2001:db8::1, session=<a>"
)
OTHER = "Jun 14 10:00:00 mx postfix/smtpd[77]: connect from mail.example.net[203.0.113.9]"


@pytest.fixture
def log(tmp_path):
    def write(*lines, name="mail.log", end="\n"):
        path = tmp_path / name
        path.write_text("\n".join(lines) + end)
        return str(path)

    return write


def test_it_prints_what_each_line_is(toolkit, log):
    done = toolkit("match", log(OTHER, ISO, FAILURE))
    lines = done.out.splitlines()
    assert lines[0] == "2: login dovecot 2001:db8::7 carol pop3 2026-01-02T01:04:05Z"
    assert lines[1].startswith("3: failure courier imap ")
    assert (done.status, len(lines), done.err) == (0, 2, "")


def test_the_objects_have_these_keys(toolkit, log):
    done = toolkit("match", "--json", log(OTHER, ISO, FAILURE, LOGIN, LOGOUT))
    first, login, logout = map(json.loads, done.out.splitlines())
    assert first == {
        "line": 2,
        "event": "login",
        "server": "dovecot",
        "address": "2001:db8::7",
        "user": "carol",
        "service": "pop3",
        "time": "2026-01-02T01:04:05Z",
    }
    assert list(first) == list(login) == list(logout)
    assert (login["line"], login["event"]) == (4, "login")
    assert (logout["line"], logout["event"], logout["address"]) == (5, "logout", "198.51.100.7")


def test_what_a_line_does_not_say_is_null(toolkit, log):
    line = "dovecot: imap-login: Login: method=PLAIN, rip=198.51.100.7, lip=192.0.2.1"
    entry = json.loads(toolkit("match", "--json", log(line)).out)
    assert (entry["address"], entry["user"], entry["time"]) == ("198.51.100.7", None, None)


def test_a_log_without_logins_ends_with_1(toolkit, log):
    done = toolkit("match", log(OTHER))
    assert (done.status, done.out, done.err) == (1, "", "")
    assert toolkit("match", log(FAILURE)).status == 1
    assert toolkit("match", "--json", log(FAILURE)).out == ""
    assert toolkit("match", log(end="")).status == 1
    assert toolkit("match", log(LOGOUT)).status == 0


def test_it_says_why_a_line_does_not_count(toolkit, log):
    done = toolkit("match", "--explain", log("", OTHER, LOGIN + ", ip=[6.6.6.6]", LOGIN, FAILURE))
    lines = done.out.splitlines()
    assert lines[0] == "1: nothing: no program's name where one belongs"
    assert lines[1] == "2: nothing: 'postfix/smtpd' is not a program whose lines are looked at"
    assert lines[2].startswith("3: nothing: ip=[ stands in it twice")
    assert lines[3].startswith("4: login courier 198.51.100.7 bob imap ")
    assert lines[4].startswith("5: failure courier ")
    assert done.status == 0


def test_one_server_can_be_chosen(toolkit, log):
    path = log(LOGIN, ISO)
    assert toolkit("match", "--server", "dovecot", path).out.startswith("2: login dovecot ")
    both = toolkit("match", "--server", "dovecot", "--server", "courier", path)
    assert len(both.out.splitlines()) == 2
    assert toolkit("match", "--server", "uw", path).status == 1


def test_several_files_are_named(toolkit, log):
    one, two = log(LOGIN, name="one"), log(OTHER, ISO, name="two")
    done = toolkit("match", one, two)
    assert [line.split(" ")[0] for line in done.out.splitlines()] == [f"{one}:1:", f"{two}:2:"]
    objects = map(json.loads, toolkit("match", "--json", one, two).out.splitlines())
    assert [(entry["file"], entry["line"]) for entry in objects] == [(one, 1), (two, 2)]


def test_a_last_line_without_an_end_counts_too(toolkit, log):
    assert toolkit("match", log(OTHER, LOGIN, end="")).status == 0


def test_it_reads_its_input_and_any_bytes(toolkit, tmp_path):
    path = tmp_path / "mail.log"
    path.write_bytes(b"\0" * 5000 + b"\n\xff\xfe\n" + b"x" * 3_000_000 + b"\n" + LOGIN.encode())
    with open(path, "rb") as file:
        saved = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            piped = toolkit("match")
        finally:
            os.dup2(saved, 0)
            os.close(saved)
    assert piped.out.startswith("4: login courier 198.51.100.7 bob imap ")
    assert piped.out == toolkit("match", str(path)).out


def test_a_users_name_cannot_forge_a_line(toolkit, log):
    done = toolkit("match", log(LOGIN.replace("user=bob", "user=\x1b2J\r2: login x y")))
    assert len(done.out.splitlines()) == 1
    assert done.out.startswith("1: login courier 198.51.100.7 ")
    assert done.out.strip().isprintable()


def test_own_patterns_count(toolkit, log):
    line = "Jun 14 10:00:00 mx acme[77]: OK bob 198.51.100.7"
    assert toolkit("match", log(line)).status == 1
    with open(toolkit.config, "a") as file:
        file.write(
            "[[watch.pattern]]\n"
            'name = "acme"\n'
            r"login = 'acme\[[0-9]+\]: OK (?P<user>[^ ]++) (?P<address>[^ ]++)$'"
            f'\nsample = "{line}"\n'
        )
    assert toolkit("match", log(line)).out.startswith("1: login acme 198.51.100.7 bob ")
    assert toolkit("match", "--server", "acme", log(LOGIN)).status == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--server", "exim"), "unknown: exim; known: apple, courier, "),
        (("--json", "--explain"), "Give either --json or --explain."),
        (("/nowhere/mail.log",), "/nowhere/mail.log"),
        (("/",), "is a directory"),
    ],
)
def test_wrong_calls_are_refused(toolkit, arguments, said):
    done = toolkit("match", *arguments)
    assert (done.status, done.out) == (2, "")
    assert said in done.err


def test_nothing_is_recorded(toolkit, log):
    toolkit("match", log(LOGIN))
    assert toolkit("check", "198.51.100.7").status == 1
