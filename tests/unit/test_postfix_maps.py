"""The text of the map files and main.cf lines, read back as Postfix and libpq read it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import parse_dsn

from popbsmtp_wrap import config
from popbsmtp_wrap.errors import ConfigError
from popbsmtp_wrap.postfix import maps

VERSIONS = [(2, 9), (2, 10), (2, 11), (3, 0), (3, 3), (3, 7), (3, 11)]
URLS = {
    "pgsql": "postgresql://reader@db.example.org/mail",
    "mysql": "mysql://reader@db.example.org/mail",
    "sqlite": "sqlite:////var/lib/popbsmtp/popbsmtp.db",
}
# Tried on Postfix 3.7; the last two are stripped by mysql_table(5)'s parser.
PASSWORDS = [
    *("a#b", "#a", "in side", "in\tside", "$", "$name", "${x}", "%", "'", '"quoted"', "\\", "a\\"),
    *("=", "=a", "a;b", "a,b", "a@b", "a:b/c", "pässwörd", "{braces}", "'; --", "\\'", "%s %u"),
]
BLANK_PASSWORDS = [" a", "a ", "\ta", "a\t"]


def settings_with(kind, **postfix_section):
    return config.parse(
        {"database": {"url": URLS[kind]}, "postfix": postfix_section}, "popbsmtp.toml"
    )


def settings_of(kind, password, tmp_path, user="reader"):
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_bytes(password.encode())
    return settings_with(kind, user=user, password_file=str(path))


def as_postfix_reads(text):
    """Return the parameters as dict_load_fp() and split_nameval() of Postfix find them."""
    parameters = {}
    for line in text.split("\n"):
        if not line.strip(" \t\v\f\r") or line.startswith("#"):
            continue
        assert line[0] not in " \t", line
        name, equals, value = line.partition("=")
        assert equals, line
        assert name.strip() not in parameters, name
        parameters[name.strip(" \t\v\f\r")] = value.strip(" \t\v\f\r")
    return parameters


def map_of(settings, version=(3, 7), directory="/etc/postfix"):
    return as_postfix_reads(maps.map_files(settings, directory, version)[0].text)


def pgsql_account(parameters):
    return parse_dsn(parameters["dbname"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("password", PASSWORDS)
def test_mysql_reads_back_every_password(password, version, tmp_path):
    assert map_of(settings_of("mysql", password, tmp_path), version)["password"] == password


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("password", PASSWORDS + BLANK_PASSWORDS)
def test_libpq_reads_back_every_password(password, version, tmp_path):
    account = pgsql_account(map_of(settings_of("pgsql", password, tmp_path), version))
    assert account["password"] == password
    assert account["user"] == "reader"
    assert account["dbname"] == "mail"
    assert account["connect_timeout"] == "2"


@pytest.mark.parametrize("password", BLANK_PASSWORDS)
def test_mysql_refuses_a_password_that_its_map_file_cannot_hold(password, tmp_path):
    with pytest.raises(ConfigError) as refused:
        map_of(settings_of("mysql", password, tmp_path))
    assert str(refused.value) == (
        "postfix: the password begins or ends with a blank, which a map file cannot hold;"
        " choose another one"
    )


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
@pytest.mark.parametrize("part", ["password", "user", "dbname"])
@pytest.mark.parametrize("character", ["%0A", "%0D", "%00"])
def test_a_line_break_or_nul_is_refused_everywhere(kind, part, character):
    words = {"user": "reader", "password": "x", "dbname": "mail"}
    words[part] += f"{character}query = SELECT 'OK'".replace(" ", "%20")
    scheme = URLS[kind].partition(":")[0]
    url = f"{scheme}://{words['user']}:{words['password']}@db.example.org/{words['dbname']}"
    with pytest.raises(ConfigError) as refused:
        map_of(config.parse({"database": {"url": url}}, "popbsmtp.toml"))
    wanted = f"postfix: the {part} holds a line break or NUL, which a map file cannot hold;"
    if character == "%00":
        wanted = "expected a URL without a zero byte"
    assert wanted in str(refused.value)


@pytest.mark.parametrize("character", ["%0Aquery=x", "%20"])
def test_an_sqlite_path_that_the_map_file_cannot_hold_is_refused(character):
    settings = config.parse(
        {"database": {"url": f"sqlite:////var/lib/popbsmtp.db{character}"}}, "popbsmtp.toml"
    )
    with pytest.raises(ConfigError, match="the path "):
        map_of(settings)


@given(
    user=st.text(st.characters(codec="utf-8"), min_size=1),
    password=st.text(st.characters(codec="utf-8")),
    kind=st.sampled_from(["pgsql", "mysql"]),
    version=st.sampled_from(VERSIONS),
)
def test_whatever_an_account_holds_it_is_read_back_or_refused(
    user, password, kind, version, tmp_path_factory
):
    password = re.split("[\r\n]", password)[0]  # of a password file the first line counts
    try:
        settings = settings_of(kind, password, tmp_path_factory.mktemp("account"), user)
        parameters = map_of(settings, version)
    except ConfigError:
        held = user + password
        blank = kind == "mysql" and any(s != s.strip(" \t\v\f") for s in (user, password))
        assert blank or re.search("[\r\n\0]", held)
        return
    found = pgsql_account(parameters) if kind == "pgsql" else parameters
    assert found.get("password", "") == password
    assert found["user"] == user
    assert parameters["query"] == map_of(settings_with(kind), version)["query"]


@given(
    host=st.text(st.characters(codec="utf-8"), min_size=1), kind=st.sampled_from(["pgsql", "mysql"])
)
def test_whatever_a_host_holds_it_is_one_host_or_refused(host, kind):
    try:
        parameters = map_of(settings_with(kind, hosts=[host]))
    except ConfigError as refused:
        assert "postfix.hosts: found " in str(refused)
        return
    first, second = re.split("[ ,\t\r\n]+", parameters["hosts"])
    assert first == second
    assert parameters["query"] == map_of(settings_with(kind))["query"]


@given(
    value=st.text(st.characters(codec="utf-8"), max_size=20),
    key=st.sampled_from(["table", "address_column", "last_seen_column"]),
)
def test_whatever_a_table_is_called_the_map_has_one_query_or_none(value, key):
    try:
        settings = config.parse({"database": {"url": URLS["sqlite"], key: value}}, "popbsmtp.toml")
    except ConfigError:
        return
    assert list(map_of(settings)) == ["dbpath", "query"]
    assert value in map_of(settings)["query"]


@pytest.mark.parametrize("kind", URLS)
def test_the_query_keeps_the_key_in_quotes_and_doubles_other_percents(kind):
    for version in VERSIONS:
        query = map_of(settings_with(kind), version)["query"]
        assert re.findall("%.", query.replace("'%s'", "")) in ([], ["%%", "%%"])
        assert query.count("'%s'") >= 1
        assert query.startswith("SELECT 'OK' FROM popbsmtp WHERE address = '%s' AND ")


def test_a_reserved_word_as_a_column_is_quoted():
    settings = config.parse(
        {"database": {"url": URLS["pgsql"], "table": "user", "address_column": "Host"}}, "x"
    )
    assert """SELECT 'OK' FROM "user" WHERE "Host" = '%s' AND """ in map_of(settings)["query"]


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
def test_a_server_stands_twice_so_that_its_restart_costs_nothing(kind):
    first, second = map_of(settings_with(kind))["hosts"].split()
    assert first == second
    two = map_of(settings_with(kind, hosts=["one.example.org:1", "two.example.org:2"]))["hosts"]
    assert two == "inet:one.example.org:1 inet:two.example.org:2"


def test_no_password_is_in_hosts_which_postfix_logs(tmp_path):
    for kind in ("pgsql", "mysql"):
        for version in VERSIONS:
            parameters = map_of(settings_of(kind, "hunter2", tmp_path), version)
            assert "hunter2" not in parameters["hosts"]


@pytest.mark.parametrize("version", VERSIONS)
def test_mysql_has_its_time_out_in_an_option_file_since_2_11(version):
    files = maps.map_files(settings_with("mysql"), "/etc/postfix", version)
    names = [file.name for file in files]
    parameters = as_postfix_reads(files[0].text)
    if version < (2, 11):
        assert "popbsmtp-mysql.cnf" not in names
        assert "option_file" not in parameters
        return
    assert parameters["option_file"] == "/etc/postfix/popbsmtp-mysql.cnf"
    assert parameters["option_group"] == "client"
    option_file = files[names.index("popbsmtp-mysql.cnf")]
    assert "[client]\nconnect_timeout = 2\n" in option_file.text
    assert not option_file.secret


def test_tls_of_the_url_reaches_the_maps():
    mysql = config.parse(
        {"database": {"url": f"{URLS['mysql']}?ssl_ca=/ca&ssl_cert=/cert&ssl_key=/key"}}, "x"
    )
    parameters = map_of(mysql)
    assert parameters["tls_CAfile"] == "/ca"
    assert parameters["tls_cert_file"] == "/cert"
    assert parameters["tls_key_file"] == "/key"
    pgsql = config.parse(
        {"database": {"url": f"{URLS['pgsql']}?sslmode=verify-full&sslrootcert=/a%20b"}}, "x"
    )
    account = pgsql_account(map_of(pgsql))
    assert account["sslmode"] == "verify-full"
    assert account["sslrootcert"] == "/a b"


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize("version", VERSIONS)
def test_main_cf_says_what_this_version_understands(kind, version):
    text = maps.main_cf(settings_with(kind), "/etc/postfix", version)
    proxied = f"proxy:{kind}:/etc/postfix/popbsmtp-{kind}.cf"
    lines = [line.strip() for line in text.splitlines() if not line.startswith("#")]
    names = [line for line in lines if line.endswith(" =")]
    check = lines[lines.index("reject_unauth_destination") - 1]
    before = lines[1 : lines.index(check)]
    if version >= (2, 10):
        assert names[0] == "smtpd_relay_restrictions ="
        assert before == [
            "permit_mynetworks",
            "permit_sasl_authenticated",
            "permit_auth_destination",
        ]
    else:
        assert names[0] == "smtpd_recipient_restrictions ="
        assert before == ["permit_mynetworks", "permit_sasl_authenticated"]
    if version >= (3, 7):
        pattern = "^([0-9]+[.][0-9]+[.][0-9]+[.][0-9]+|[0-9a-f.]*:[0-9a-f:.]+)$$"
        regexp = f"{{{{/{pattern}/ $${{1}}}}}}"
        assert check == f"check_client_access pipemap:{{regexp:{regexp}, {proxied}}}"
    elif version >= (3, 0):
        regexp = "regexp:/etc/postfix/popbsmtp-address.regexp"
        assert check == f"check_client_access pipemap:{{{regexp}, {proxied}}}"
    else:
        assert check == f"check_client_access {proxied}"
    # HISTORY 20141024: Postfix 3.0 lets proxymap read what smtpd's restrictions name.
    assert names[1:] == ([] if version >= (3, 0) else ["proxy_read_maps ="])
    if version < (3, 0):
        assert lines[-1] == proxied


@pytest.mark.parametrize("version", VERSIONS)
def test_only_versions_with_pipemap_and_without_inline_regexp_get_a_regexp_file(version):
    files = {f.name: f for f in maps.map_files(settings_with("sqlite"), "/etc/postfix", version)}
    assert ("popbsmtp-address.regexp" in files) == ((3, 0) <= version < (3, 7))


@pytest.mark.parametrize("directory", ["/etc/post fix", "/etc/{x}", "/etc/a,b", "/etc/$x", "/a:b"])
def test_a_directory_that_postfix_would_split_is_refused(directory):
    with pytest.raises(ConfigError, match="Postfix splits names at such characters"):
        maps.main_cf(settings_with("sqlite"), directory)


@pytest.mark.parametrize(
    ("text", "version"),
    [("3.7", (3, 7)), ("3.7.11\n", (3, 7)), ("2.10", (2, 10)), ("3.12-20260821", (3, 12))],
)
def test_a_version_is_read(text, version):
    assert maps.parse_version(text) == version


@pytest.mark.parametrize("text", ["", "3", "three", "3.", ".7", "100.1"])
def test_what_is_no_version_is_refused(text):
    with pytest.raises(ValueError, match="is not a Postfix version such as"):
        maps.parse_version(text)
