"""examples/dovecot is what the toolkit prints for the default configuration."""

from pathlib import Path

import pytest

from popbsmtp_wrap.sources import dovecot

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "dovecot"


@pytest.mark.parametrize("version", dovecot.VERSIONS)
def test_the_example_is_what_the_toolkit_prints(version):
    printed = dovecot.configuration(
        version, ["/usr/local/bin/popbsmtp-wrap"], [], "popbsmtp", extra_group=""
    )
    assert (EXAMPLES / f"popbsmtp-{version}.conf").read_text() == printed
