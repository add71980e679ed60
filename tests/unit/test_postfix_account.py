"""How Postfix reaches the database: every way to write a host, and what is none."""

import pytest

from popbsmtp_wrap import config
from popbsmtp_wrap.config.database_url import Endpoint
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.postfix.account import postfix_account
from popbsmtp_wrap.postfix.maps import map_files


def settings_for(url, **postfix_section):
    return config.parse({"database": {"url": url}, "postfix": postfix_section}, "popbsmtp.toml")


def hosts_line(url, **postfix_section):
    text = map_files(settings_for(url, **postfix_section), "/etc/postfix")[0].text
    line = next(line for line in text.splitlines() if line.startswith("hosts = "))
    hosts = line.removeprefix("hosts = ").split(" ")
    return hosts[0] if len(hosts) == 2 and hosts[0] == hosts[1] else hosts


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("db.example.org", Endpoint("db.example.org")),
        ("db.example.org:5433", Endpoint("db.example.org", 5433)),
        ("inet:db.example.org:5433", Endpoint("db.example.org", 5433)),
        ("inet:db.example.org", Endpoint("db.example.org")),
        ("192.0.2.1:5433", Endpoint("192.0.2.1", 5433)),
        ("localhost", Endpoint("localhost")),
        ("unix:/run/postgresql", Endpoint(socket="/run/postgresql")),
        ("/run/mysqld/mysqld.sock", Endpoint(socket="/run/mysqld/mysqld.sock")),
        ("[::1]:5432", Endpoint("::1", 5432)),
        ("[2001:DB8::1]", Endpoint("2001:db8::1")),
        ("inet:[::1]:5432", Endpoint("::1", 5432)),
        ("2001:db8::1", Endpoint("2001:db8::1")),
    ],
)
def test_a_host_may_be_written_in_every_usual_way(host, place):
    account = postfix_account(settings_for("mysql://u@ignored.example.org/mail", hosts=[host]))
    assert account.places == (place,)


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "a b", "a,b", "a\nquery = x", "unix:", "unix:relative", "unix:/a b", "/a,b"),
        *(
            "/a:b",
            "a:",
            "a:b",
            "a:123456",
            "[::1",
            "[x]:1",
            "-a",
            "tcp:a:1",
            "fe80::1%eth0",
            "::1%a b",
            "a/b",
        ),
        *("postgresql://reader@db.example.org/mail", "db.example.org:٥٤"),
    ],
)
def test_what_is_no_host_is_refused(host):
    with pytest.raises(ConfigError) as refused:
        postfix_account(settings_for("mysql://u@ignored.example.org/mail", hosts=[host]))
    assert str(refused.value) == (
        f"postfix.hosts: found {host!r}, expected a host such as"
        ' "db.example.org", "192.0.2.1:5432", "[2001:db8::1]:5432" or "unix:/path"'
    )


def test_a_url_as_a_host_does_not_show_its_password():
    settings = settings_for("mysql://u@h/mail", hosts=["mysql://u:hunter2@h/mail"])
    with pytest.raises(ConfigError) as refused:
        postfix_account(settings)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://u@db.example.org/mail", "inet:db.example.org:5432"),
        ("postgresql://u@db.example.org:5433/mail", "inet:db.example.org:5433"),
        ("postgresql://u@[2001:db8::1]:5433/mail", "inet:2001:db8::1:5433"),
        ("postgresql://u@localhost/mail", "inet:localhost:5432"),
        ("postgresql://u@/mail?host=/run/pg", "unix:/run/pg"),
        ("postgresql:///mail?host=/run/pg", "unix:/run/pg"),
        ("postgresql:///mail?host=one&host=two", ["inet:one:5432", "inet:two:5432"]),
        ("postgresql:///mail?host=one:1,two:2", ["inet:one:1", "inet:two:2"]),
        ("postgresql://u@%2Frun%2Fpg/mail", "unix:/run/pg"),
        ("postgresql:///mail", "unix:"),
        ("mysql://u@db.example.org/mail", "inet:db.example.org:3306"),
        ("mysql://u@[2001:db8::1]/mail", "inet:2001:db8::1:3306"),
        ("mysql://u@localhost:3307/mail", "inet:127.0.0.1:3307"),
        ("mysql://u@localhost/mail?unix_socket=/run/m.sock", "unix:/run/m.sock"),
        ("mysql:///mail", "inet:127.0.0.1:3306"),
        ("mariadb+pymysql://u@db.example.org/mail", "inet:db.example.org:3306"),
    ],
)
def test_the_urls_own_host_counts_where_postfix_has_none(url, hosts):
    assert hosts_line(url) == hosts


def test_several_hosts_stand_in_their_order_with_the_urls_port():
    given = ["one.example.org", "[::1]:99", "unix:/run/pg"]
    found = hosts_line("postgresql://u@ignored:5433/mail", hosts=given)
    assert found == ["inet:one.example.org:5433", "inet:::1:99", "unix:/run/pg"]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u@db.example.org:5433/mail?host=/run/pg",
        "postgresql:///mail?host=/run/pg&port=5433",
    ],
)
def test_a_port_besides_5432_reaches_postgresqls_unix_socket(url):
    text = map_files(settings_for(url), "/etc/postfix")[0].text
    assert " port=5433 " in text


def test_percent_encoded_parts_of_the_url_are_decoded():
    account = postfix_account(settings_for("mysql://re%20ader:p%40%2F%25@h/ma%2Fil"))
    assert (account.user, account.password, account.database) == ("re ader", "p@/%", "ma/il")


def test_postfixs_own_account_does_not_get_the_writers_password(tmp_path):
    settings = settings_for("mysql://writer:hunter2@h/mail", user="reader")
    account = postfix_account(settings)
    assert (account.user, account.password) == ("reader", "")


def test_the_writers_password_file_counts_for_the_writers_account_alone(tmp_path):
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text("first line\nsecond line\n")
    sections = {"database": {"url": "mysql://writer@h/mail", "password_file": str(path)}}
    assert postfix_account(config.parse(sections, "x")).password == "first line"
    sections["postfix"] = {"user": "reader"}
    assert postfix_account(config.parse(sections, "x")).password == ""
    sections["postfix"] = {"user": "reader", "password_file": str(path)}
    assert postfix_account(config.parse(sections, "x")).password == "first line"


def test_an_account_does_not_show_its_password():
    assert "hunter2" not in repr(postfix_account(settings_for("mysql://u:hunter2@h/mail")))
