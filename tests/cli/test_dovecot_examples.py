"""examples/dovecot is what the toolkit prints for the default configuration."""

from pathlib import Path

import pytest

from popbsmtp_wrap.config import PostLogin
from popbsmtp_wrap.dovecot import configuration

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "dovecot"


@pytest.mark.parametrize("version", configuration.VERSIONS)
def test_the_example_is_what_the_toolkit_prints(version):
    printed = configuration.configuration(
        version, ["/usr/local/bin/popbsmtp-wrap"], [], "popbsmtp", extra_group=""
    )
    if version != "1":
        printed += configuration.sessions_configuration("popbsmtp")
    assert (EXAMPLES / f"popbsmtp-{version}.conf").read_text() == printed


@pytest.mark.parametrize("version", ["2.3", "2.4"])
def test_the_example_with_sockets_is_what_the_toolkit_prints(version):
    printed = configuration.socket_configuration(
        version,
        [
            PostLogin("/run/popbsmtp/imap-postlogin", "imap"),
            PostLogin("/run/popbsmtp/pop3-postlogin", "pop3"),
        ],
    )
    printed += configuration.sessions_configuration("popbsmtp")
    assert (EXAMPLES / f"popbsmtp-{version}-socket.conf").read_text() == printed
