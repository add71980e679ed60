"""popbsmtp.d: files beside popbsmtp.toml that add to it and replace what it says."""

import os

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import ConfigError


@pytest.fixture
def path(tmp_path):
    (tmp_path / "popbsmtp.d").mkdir()
    main = tmp_path / "popbsmtp.toml"
    main.write_text('grace = "1h"\n[recorder]\nusers = ["a"]\nuser = "mail"\n')
    return main


def add(path, name, text, mode=0o644):
    file = path.parent / "popbsmtp.d" / name
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_last_file_that_sets_a_key_counts(path):
    add(path, "20-site.toml", 'grace = "3h"\n[recorder]\nusers = ["c"]\n')
    add(path, "10-site.toml", 'grace = "2h"\n[recorder]\nlog = "syslog"\n')
    settings = config.load(str(path))
    assert settings.grace == 3 * 3600
    recorder = settings.recorder
    assert (recorder.users, recorder.user, recorder.log) == (("c",), "mail", "syslog")


def test_keys_are_checked_together(path):
    """Half of the grace that another file sets, and more than half of the default."""
    add(path, "site.toml", '[recorder]\nrefresh = "25m"')
    assert config.load(str(path)).refresh == 25 * 60


def test_only_visible_toml_files_are_read(path):
    for name in (".20.toml", "20.toml.dpkg-old", "20.toml~", "README"):
        add(path, name, "no toml")
    assert config.load(str(path)).grace == 3600


def test_there_need_be_no_directory(path):
    os.rmdir(path.parent / "popbsmtp.d")
    assert config.load(str(path)).grace == 3600


def test_the_file_itself_has_to_be_there(path):
    add(path, "site.toml", "grace = 60")
    path.unlink()
    with pytest.raises(ConfigError, match=r"popbsmtp\.toml does not exist; create it"):
        config.load(str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("grace = true", "grace: found True, expected a duration"),
        ("[recorder]\nlog = 1", "recorder.log: found 1, expected"),
        ("[recorder]\nspol = 1", "recorder.spol: unknown key, did you mean spool?"),
        ('[recorder]\nrefresh = "50m"', "recorder.refresh: found 3000 s, expected at most half"),
        ('[sessions]\nrenew = "50m"', "sessions.renew: found 3000 s, expected at most half"),
        ("recorder = 1", "recorder: found 1, expected a section [recorder]"),
        ("[", " is not TOML: "),
    ],
)
def test_messages_name_the_file_that_is_wrong(path, text, said):
    file = add(path, "site.toml", text)
    with pytest.raises(ConfigError) as caught:
        config.load(str(path))
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_only_the_file_that_holds_the_password_has_to_be_closed(path):
    secret = add(path, "db.toml", '[database]\nurl = "mysql://mail:geheim@host/mail"')
    with pytest.raises(ConfigError, match=r"popbsmtp\.d/db\.toml holds a password and is readable"):
        config.load(str(path))
    secret.chmod(0o640)
    assert config.load(str(path)).database.dialect == "mysql"


def test_a_directory_that_is_a_file_is_said(path):
    os.rmdir(path.parent / "popbsmtp.d")
    (path.parent / "popbsmtp.d").write_text("")
    with pytest.raises(ConfigError, match=r"popbsmtp\.d cannot be read: Not a directory"):
        config.load(str(path))


def test_fingerprint_changes_with_each_edit(path):
    found = [config.fingerprint(str(path))]

    def changed():
        found.append(config.fingerprint(str(path)))
        return found.count(found[-1]) == 1

    add(path, ".10-site.toml.swp", "")
    add(path, ".hidden.toml", "")
    assert not changed()
    site = add(path, "10-site.toml", 'grace = "20m"\n')
    assert changed()
    site.write_text('grace = "200m"\n')
    assert changed()
    other = add(path, "20-other.toml", "")
    assert changed()
    other.rename(other.with_name("00-other.toml"))
    assert changed()
    os.utime(other.with_name("00-other.toml"), ns=(0, 1))
    assert changed()
    path.write_text("grace = 60")
    assert changed()
    path.rename(path.with_name("old"))
    assert changed()
    path.write_text("grace = 60")
    assert changed()
