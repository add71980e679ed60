"""popbsmtp.toml, read and refused. tests/bad_configs holds the cases that a file alone makes."""

import os
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popbsmtp_wrap import config
from popbsmtp_wrap.config import passwords
from popbsmtp_wrap.errors import ConfigError


def written(tmp_path, text, mode=0o644):
    path = tmp_path / "popbsmtp.toml"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_an_empty_file_means_all_defaults(tmp_path):
    assert config.load(written(tmp_path, "")) == config.Settings()


def test_defaults_are_those_of_the_contract():
    settings = config.Settings()
    database = settings.database
    assert settings.grace == 1800
    assert database.url == "sqlite:////var/lib/popbsmtp/popbsmtp.db"
    assert database.table == "popbsmtp"
    assert database.columns == ("address", "last_seen", "first_seen", "username", "service")
    assert database.connect_timeout == 2
    assert settings.wrapper.wait == 2
    assert settings.wrapper.linger == 600
    assert settings.recorder.socket == "/run/popbsmtp/login.sock"
    assert settings.recorder.spool == "/var/spool/popbsmtp"
    assert settings.ignore.postfix_mynetworks
    assert settings.ignore.own_addresses
    assert settings.postfix == config.Postfix(hosts=(), user="", password_file="")


def test_every_key_is_read(tmp_path):
    settings = config.load(
        written(
            tmp_path,
            """
            grace = "2h"
            [database]
            url = "mysql+pymysql://mail@db.example.org:3307/mail?charset=utf8mb4"
            password_file = "/etc/popbsmtp/password"
            table = "auth"
            address_column = "host"
            last_seen_column = "accessed"
            first_seen_column = ""
            user_column = ""
            service_column = ""
            connect_timeout = "0.5s"
            [ignore]
            networks = ["192.0.2.0/24", "2001:db8::/32"]
            postfix_mynetworks = false
            [wrapper]
            wait = 0
            linger = "90s"
            [recorder]
            socket = "/run/other.sock"
            spool = "/var/spool/other"
            [postfix]
            hosts = ["unix:/run/mysqld/mysqld.sock", "192.0.2.5"]
            user = "reader"
            password_file = "/etc/popbsmtp/reader"
            """,
        )
    )
    assert settings.grace == 7200
    assert settings.database.dialect == "mysql"
    assert settings.database.columns == ("host", "accessed", "", "", "")
    assert settings.database.connect_timeout == 0.5
    assert settings.ignore.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert not settings.ignore.postfix_mynetworks
    assert settings.wrapper.wait == 0
    assert settings.wrapper.linger == 90
    assert settings.postfix.hosts == ("unix:/run/mysqld/mysqld.sock", "192.0.2.5")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [('"30m"', 1800), ("90", 90), ('"90"', 90), ('"90s"', 90), ('"2h"', 7200), ('"1.5m"', 90)],
)
def test_durations_take_a_unit(tmp_path, text, seconds):
    assert config.load(written(tmp_path, f"grace = {text}")).grace == seconds


@pytest.mark.parametrize("scheme", ["mariadb", "mysql", "mysql+pymysql", "mariadb+pymysql"])
def test_mariadb_is_mysql(tmp_path, scheme):
    path = written(tmp_path, f'[database]\nurl = "{scheme}://u@h/d"')
    assert config.load(path).database.dialect == "mysql"


@pytest.mark.parametrize(
    "url",
    ["mysql://mail:geheim@localhost/mail", "mysql://localhost/mail?passwd=geheim@localhost/mail"],
)
def test_a_password_that_everyone_may_read_is_refused(tmp_path, url):
    path = written(tmp_path, f'[database]\nurl = "{url}"', 0o644)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value) == (
        f"{path} holds a password and is readable by everyone; run: chmod o-rwx {path}"
    )
    os.chmod(path, 0o640)
    assert config.load(path).database.url.endswith("geheim@localhost/mail")


def test_a_file_without_password_may_be_readable(tmp_path):
    path = written(tmp_path, '[database]\nurl = "mysql://mail@localhost/mail"', 0o644)
    assert config.load(path).database.dialect == "mysql"


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(ConfigError, match=r"popbsmtp\.toml does not exist; create it \(an empty"):
        config.load(str(tmp_path / "popbsmtp.toml"))


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        config.load(str(tmp_path))


def test_settings_do_not_show_the_password():
    settings = config.parse({"database": {"url": "mysql://mail:geheim@localhost/mail"}}, "x")
    assert "geheim" not in repr(settings)


def test_a_password_file_gives_its_first_line(tmp_path):
    path = tmp_path / "password"
    path.write_text("two words \nsecond line\n")
    path.chmod(0o600)
    assert passwords.read_password(str(path)) == "two words "


def test_a_password_file_that_everyone_may_read_is_refused(tmp_path):
    path = tmp_path / "password"
    path.write_text("geheim\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=f"run: chmod o-rwx {path}$"):
        passwords.read_password(str(path))


def test_a_missing_password_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"password file .*/none cannot be read: No such file"):
        passwords.read_password(str(tmp_path / "none"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mysql://mail:geheim@host/db", "mysql://mail:***@host/db"),
        ("mysql://mail:ge@he/im@host/db", "mysql://mail:***@host/db"),
        ("postgresql://mail@host/db", "postgresql://mail@host/db"),
        ("sqlite:////var/lib/a:b@c.db", "sqlite:////var/lib/a:b@c.db"),
        ("postgresql://host/db?user=m&password=ge@h", "postgresql://host/db?user=m&password=***"),
        ("mysql://m@host/db?passwd=geheim&x=1", "mysql://m@host/db?passwd=***&x=1"),
        ("postgresql://m:g@host/db?sslpassword=h", "postgresql://m:***@host/db?sslpassword=***"),
        ("postgresql://m@host/db?passfile=/x", "postgresql://m@host/db?passfile=/x"),
    ],
)
def test_passwords_are_masked(url, shown):
    assert passwords.masked(url) == shown


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
keys = st.sampled_from(
    [
        "grace",
        "database",
        "url",
        "table",
        "networks",
        "ignore",
        "wait",
        "linger",
        "wrapper",
        "hosts",
        "postfix",
    ]
)


@given(st.dictionaries(keys, values | st.dictionaries(keys, values)))
def test_whatever_toml_holds_is_settings_or_a_config_error(found):
    try:
        assert isinstance(config.parse(found, "popbsmtp.toml"), config.Settings)
    except ConfigError as error:
        assert str(error).startswith("popbsmtp.toml: ")


@pytest.mark.parametrize(
    ("written", "renew_s"),
    [
        ({}, 600),
        ({"renew": ""}, 600),
        ({"renew": "5m"}, 300),
        ({"renew": 1}, 1),
        ({"renew": "15m"}, 900),
        ({"renew": 0}, 0),
        ({"renew": "0s"}, 0),
        ({"renew": "off"}, 0),
    ],
)
def test_open_sessions_are_renewed_every_third_of_grace_unless_it_says_otherwise(written, renew_s):
    assert config.parse({"sessions": written}, "popbsmtp.toml").renew == renew_s


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({}, ()),
        ({"doveadm": ""}, ()),
        ({"doveadm": "/opt/bin/doveadm"}, ("/opt/bin/doveadm",)),
        ({"doveadm": ["/opt/bin/doveadm", "-i", "b"]}, ("/opt/bin/doveadm", "-i", "b")),
    ],
)
def test_doveadm_is_a_program_or_a_command(written, words):
    assert config.parse({"sessions": written}, "popbsmtp.toml").sessions.doveadm == words
