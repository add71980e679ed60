"""The wrapper's arguments, good and bad, as the launcher gets them."""

import pytest

from popbsmtp_wrap.wrapper.wrap import parse


@pytest.mark.parametrize(
    ("arguments", "options", "program"),
    [
        (["imap"], {}, ["imap"]),
        (["/x/imap", "-x", "--config", "y"], {}, ["/x/imap", "-x", "--config", "y"]),
        (["--config", "/c", "imap"], {"--config": "/c"}, ["imap"]),
        (["--config=/c", "imap"], {"--config": "/c"}, ["imap"]),
        (["--config=", "imap"], {"--config": ""}, ["imap"]),
        (["--config=/a=b", "imap"], {"--config": "/a=b"}, ["imap"]),
        (
            ["--socket", "/s", "--wait", "1", "--service", "pop3", "--", "x"],
            {"--socket": "/s", "--wait": "1", "--service": "pop3"},
            ["x"],
        ),
        (["--wait", "1", "--wait=3", "imap"], {"--wait": "3"}, ["imap"]),
        (["--", "--strange"], {}, ["--strange"]),
        (["--", "--", "x"], {}, ["--", "x"]),
        (["--wait", "--", "imap"], {"--wait": "--"}, ["imap"]),
        ([], {}, []),
        (["--"], {}, []),
        (["--wait"], {}, []),
        (["--wait", "1"], {"--wait": "1"}, []),
        ([""], {}, [""]),
        (["imap", "[alice", "127.0.0.1]"], {}, ["imap", "[alice", "127.0.0.1]"]),
    ],
)
def test_arguments_are_options_then_the_program_untouched(capfd, arguments, options, program):
    assert parse(arguments) == (options, program)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "program", "unknown"),
    [
        (["--conf", "imap"], ["imap"], "--conf"),
        (["-h", "imap"], ["imap"], "-h"),
        (["-", "imap"], ["imap"], "-"),
        (["--conf", "/c", "--wait", "1", "--", "imap"], ["imap"], "--conf"),
        (["--conf=/c", "--", "imap", "--", "x"], ["imap", "--", "x"], "--conf"),
    ],
)
def test_unknown_option_is_named_and_the_program_still_found(capfd, arguments, program, unknown):
    assert parse(arguments)[1] == program
    assert capfd.readouterr() == ("", f"popbsmtp-wrap: unknown option '{unknown}'\n")
