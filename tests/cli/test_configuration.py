"""`popbsmtp config`: what is in force, as TOML and as JSON."""

import json
import tomllib

from popbsmtp_wrap import config

URL = "postgresql://mail:geheim@host/mail"


def test_what_is_printed_is_the_configuration(toolkit):
    toolkit.config.write_text(
        toolkit.config.read_text() + '[[recorder.postlogin]]\npath = "/run/a\\u007f\\"ö"\n'
        'service = "imap"\n[watch.journal_units]\ndovecot = []\n'
    )
    done = toolkit("config")
    assert (done.status, done.err) == (0, "")
    assert config.parse(tomllib.loads(done.out), "x") == config.load(str(toolkit.config))
    assert json.loads(toolkit("config", "--json").out) == tomllib.loads(done.out)


def test_passwords_are_masked(toolkit):
    toolkit.config.write_text(f'[database]\nurl = "{URL}"\n')
    toolkit.config.chmod(0o600)
    for arguments in ([], ["--json"]):
        out = toolkit("config", *arguments).out
        assert "postgresql://mail:***@host/mail" in out
        assert "geheim" not in out


def test_directory_counts(toolkit):
    folder = toolkit.config.parent / "popbsmtp.d"
    folder.mkdir()
    (folder / "site.toml").write_text('grace = "1h"')
    assert json.loads(toolkit("config", "--json").out)["grace"] == "1h"


def test_check_prints_nothing_or_what_is_wrong(toolkit):
    # A database that nobody can reach is none of its business.
    toolkit.config.write_text('[database]\nurl = "postgresql://mail@192.0.2.1/mail"')
    done = toolkit("config", "--check")
    assert (done.status, done.out, done.err) == (0, "", "")
    toolkit.config.write_text("grace = -1")
    done = toolkit("config", "--check")
    assert (done.status, done.out) == (78, "")
    assert "grace: found -1, expected" in done.err
