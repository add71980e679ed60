"""What `popbsmtp dovecot` says beside the configuration it prints."""

import os
import stat


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
