"""Entries of the systemd journal, as journalctl --output=json prints them."""

import json

import pytest

from popbsmtp_wrap.logs.recogniser import Recogniser
from popbsmtp_wrap.watch.journal import command, parse

LOGIN = (
    "imap-login: Login: user=<alice>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, mpid=77, TLS,"
    " session=<abc>"
)
FIELDS = {
    "__CURSOR": "s=1;i=2",
    "__REALTIME_TIMESTAMP": "1795226400123456",
    "_SYSTEMD_UNIT": "dovecot.service",
    "_COMM": "log",
    "_EXE": "/usr/lib/dovecot/log",
    "_PID": "76",
    "SYSLOG_IDENTIFIER": "dovecot",
    "MESSAGE": LOGIN,
}


def entry(**changes):
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not None}
    return parse(json.dumps(fields).encode())


def test_a_message_is_read_as_a_line_with_the_journals_own_time():
    found = entry()
    assert (found.unit, found.cursor) == ("dovecot.service", "s=1;i=2")
    assert found.line == b"1795226400.123456 dovecot[76]: " + LOGIN.encode()
    event = Recogniser(["dovecot"]).recognise(found.line)
    assert (event.kind, event.address, event.stamp) == (
        *("login", "198.51.100.7", "1795226400.123456"),
    )


def test_a_message_that_is_no_text_comes_as_numbers():
    assert entry(MESSAGE=[97, 255, 98]).line.endswith(b": a\xffb")


@pytest.mark.parametrize(
    "changes",
    [
        {"_SYSTEMD_UNIT": None},
        {"_COMM": None},
        {"_EXE": None},
        {"_EXE": ["/usr/lib/dovecot/log", "/tmp/x"]},
        {"SYSLOG_IDENTIFIER": None},
        {"SYSLOG_IDENTIFIER": "a: dovecot"},
        {"SYSLOG_IDENTIFIER": ["dovecot", "postfix"]},
        {"_PID": None},
        {"__REALTIME_TIMESTAMP": "soon"},
        {"MESSAGE": f"hello\n{LOGIN}"},
    ],
)
def test_what_lacks_a_trusted_field_or_has_two_lines_proves_nothing(changes):
    assert entry(**changes)[:2] == ("", b"")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b'{"__CURSOR": 1}', b"\xff"])
def test_what_is_no_entry_is_none(text):
    assert parse(text) is None


@pytest.mark.parametrize("message", [None, [1, 300], [[]], {"a": 1}, 7])
def test_a_message_of_another_kind_is_empty(message):
    assert entry(MESSAGE=message).line.endswith(b"dovecot[76]: ")


def test_journalctl_goes_on_behind_the_cursor_and_begins_at_a_time():
    units = ["dovecot.service", "cyrus-imapd.service"]
    words = command(units, "s=1", 5.0, follow=True)
    assert {"--after-cursor=s=1", "--follow", "--no-tail"} < set(words)
    assert words[-2:] == [f"_SYSTEMD_UNIT={unit}" for unit in units]
    assert command(units, None, 5.0, follow=False)[-3] == "--since=@5"
    assert "--follow" not in command(units, None, 5.0, follow=False)
