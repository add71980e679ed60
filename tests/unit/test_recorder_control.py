"""What an administrator asks a running recorder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap.client import administration
from popbsmtp_wrap.errors import ServiceUnavailableError
from popbsmtp_wrap.protocols import admin


@pytest.mark.parametrize(
    ("line", "word", "arguments"),
    [
        (b"popbsmtp-control/1\tstatus\n", "status", []),
        (b"popbsmtp-control/1\trevoke\t*\n", "revoke", ["*"]),
        (b"popbsmtp-control/1\trenew\t198.51.100.7\n", "renew", ["198.51.100.7"]),
        (b"popbsmtp-control/1\trevoked\t198.51.100.7\n", "revoked", ["198.51.100.7"]),
        (
            b"popbsmtp-control/1\trevoke\t198.51.100.7\t2001:DB8::7\n",
            "revoke",
            ["198.51.100.7", "2001:db8::7"],
        ),
    ],
)
def test_requests_are_understood(line, word, arguments):
    assert admin.is_control(line)
    assert admin.parse(line) == (word, arguments)


@pytest.mark.parametrize(
    "line",
    [
        b"popbsmtp-control/1\tstatus",
        b"popbsmtp-control/1\tstatus\tnow\n",
        b"popbsmtp-control/1\trevoke\n",
        b"popbsmtp-control/1\trevoke\t\n",
        b"popbsmtp-control/1\trenew\n",
        b"popbsmtp-control/1\trenew\t*\n",
        b"popbsmtp-control/1\trevoke\t*\t198.51.100.7\n",
        b"popbsmtp-control/1\trevoke\t198.51.100\n",
        b"popbsmtp-control/1\tstop\n",
        b"popbsmtp-control/1\trevoke\t" + b"198.51.100.7\t" * 400 + b"*\n",
    ],
)
def test_other_lines_are_refused(line):
    with pytest.raises(ValueError, match=r"not a control|not an IPv4|no complete line"):
        admin.parse(line)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_refused(rest):
    try:
        word, arguments = admin.parse(admin.PROTOCOL + b"\t" + rest)
    except ValueError:
        return
    assert word in admin.WORDS
    assert bool(arguments) != (word == "status")


def test_logins_are_no_control_requests():
    assert not admin.is_control(b"popbsmtp/1\t198.51.100.7\t\t\n")


def test_without_a_recorder_the_error_says_what_to_type(tmp_path):
    with pytest.raises(ServiceUnavailableError, match="run: systemctl start popbsmtp, or popbsm"):
        administration.ask_status(str(tmp_path / "login.sock"))
