"""popbsmtp doctor on real configurations: all well, then one link broken at a time."""

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.directories import public_directory
from tests.harness.postgres import Postgres
from tests.servers.doctor_site import Site
from tests.servers.wrap_fixtures import POPBSMTP


@pytest.fixture
def site():
    return Site()


def test_a_host_that_is_right_is_ok_from_end_to_end(site):
    status, lines = site.doctor()
    assert status == 0
    said = "\n".join(lines)
    for link in (
        f"ok    configuration {site.config}",
        f"ok    database sqlite:///{site.database} answers",
        "ok    table popbsmtp is right",
        "may record, look up and delete",
        "ok    clocks agree",
        "ok    no resident recorder: the first login starts one that stays (docs/performance.md);",
        f"ok    no spool {site.folder}/spool: a login that the database does not take in time",
        "popbsmtp-sqlite.cf is right",
        "popbsmtp-sqlite.cf answers: refused before a login, permitted after it",
        "ok    smtpd_relay_restrictions asks the map at the right place",
        "ok    service imap runs imap-postlogin",
        "ok    service pop3 runs pop3-postlogin",
        "ok    dovecot, who runs the wrapper, may use what it needs",
    ):
        assert link in said
    assert {line.split()[0] for line in lines} == {"ok"}


def test_the_canary_is_gone_afterwards(site):
    site.run("record", "198.51.100.7")
    site.doctor()
    assert [line.split()[0] for line in site.run("list").stdout.splitlines()] == ["198.51.100.7"]


def test_a_broken_configuration_ends_it(site):
    site.config.write_text("grace = 0\n")
    done = site.run("doctor")
    assert done.returncode == 78
    assert done.stderr.startswith(f"popbsmtp: {site.config}: grace: found 0")


def test_a_missing_database_says_to_init(site):
    site.database.unlink()
    (line, *_) = site.wrong()
    assert line.startswith("FAIL  database: ")
    assert line.endswith("run: popbsmtp init")


def test_a_table_that_lacks_a_column_says_the_sql(site):
    with sqlite3.connect(site.database) as connection:
        connection.execute("ALTER TABLE popbsmtp DROP COLUMN service")
    (first, *_) = site.wrong()
    assert first == (
        "FAIL  popbsmtp has no column service; popbsmtp init prints the SQL that changes it"
    )


def test_a_map_for_another_database_is_found_by_the_canary(site):
    path = site.postfix.config_directory / "popbsmtp-sqlite.cf"
    other = site.folder / "other.db"
    sqlite3.connect(other).execute(
        "CREATE TABLE popbsmtp (address TEXT PRIMARY KEY, last_seen INTEGER)"
    )
    path.write_text(path.read_text().replace(str(site.database), str(other)))
    differs, fails = site.wrong()
    assert differs.startswith(f"warn  {path} is not what the configuration gives; run: popbsmtp")
    assert "says refused before a login and refused after it" in fails


def test_a_missing_map_says_how_to_write_it(site):
    path = site.postfix.config_directory / "popbsmtp-sqlite.cf"
    path.unlink()
    assert site.wrong() == [
        f"FAIL  {path} is missing; run: popbsmtp postfix --output {site.postfix.config_directory}"
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: "", "FAIL  smtpd_relay_restrictions does not name popbsmtp-sqlite.cf"),
        (
            lambda text: text.replace("    permit_auth_destination\n", "").replace(
                "    permit_mynetworks\n", "    permit_mynetworks\n    reject_unauth_destination\n"
            ),
            "FAIL  smtpd_relay_restrictions has reject_unauth_destination before the map",
        ),
        (
            lambda text: text.replace("    permit_auth_destination\n", ""),
            "warn  smtpd_relay_restrictions asks the map about mail for your own domains, too",
        ),
        (
            lambda text: text.replace("    reject_unauth_destination\n", ""),
            "FAIL  smtpd_relay_restrictions rejects nobody: an open relay",
        ),
        (
            lambda text: re.sub(
                r"check_client_access .*(proxy:\S+)\}", r"check_client_access \1", text
            ),
            "warn  smtpd_relay_restrictions asks the map for names and prefixes, too",
        ),
    ],
    ids=["no map", "too late", "inbound", "open", "no filter"],
)
def test_restrictions_in_another_order_are_named(site, change, expected):
    site.postfix.write_main_cf(change(site.main_cf))
    (line,) = site.wrong()
    assert line.startswith(expected)


def test_a_dovecot_without_the_wrapper_is_found(site):
    site.edit_dovecot(r"executable = script-login .*", "executable = script-login /bin/true")
    (line,) = site.wrong()
    assert line.startswith("FAIL  Dovecot does not start popbsmtp-wrap; paste what")


def test_two_blanks_are_found(site):
    site.edit_dovecot("script-login ", "script-login  ")
    assert any("two blanks in executable" in line for line in site.wrong())


def test_a_wrapper_that_is_not_there_is_found(site):
    site.edit_dovecot(r"/\S*/popbsmtp-wrap", "/nowhere/popbsmtp-wrap")
    missing = "FAIL  /nowhere/popbsmtp-wrap does not exist: no login works; paste what popbsmtp"
    assert f"{missing} dovecot prints and reload Dovecot" in site.wrong()


def test_pips_own_script_is_warned_of(site):
    script = site.folder / "popbsmtp-wrap"
    script.write_text(f"#!{sys.executable}\nfrom popbsmtp_wrap.wrapper.wrap import main\nmain()\n")
    script.chmod(0o755)
    site.edit_dovecot(r"/\S*/popbsmtp-wrap", str(script))
    (line,) = site.wrong()
    assert line.startswith(f"warn  {script} does not start Python as -I -S")
    assert line.endswith(f"run: popbsmtp dovecot --install-wrapper {script}")


def test_one_service_without_a_script_is_warned_of(site):
    site.edit_dovecot("executable = pop3 pop3-postlogin", "executable = pop3")
    (line,) = site.wrong()
    assert line.startswith("warn  service pop3 has no post-login script or socket; paste what")


def test_a_user_that_may_not_read_the_configuration_is_found(site):
    site.config.chmod(0o600)
    (line,) = site.wrong()
    assert line.startswith(f"FAIL  dovecot, who runs the wrapper, may not read {site.config}")


def test_another_configuration_of_the_wrapper_is_warned_of(site):
    site.edit_dovecot(re.escape(str(site.config)), "/etc/popbsmtp/other.toml")
    (line,) = site.wrong()
    assert line.startswith("warn  Dovecot's wrapper reads /etc/popbsmtp/other.toml")


def test_a_broken_dovecot_configuration_is_shown(site):
    with site.dovecot.configuration.open("a") as file:
        file.write("no_such_setting = yes\n")
    (line,) = site.wrong()
    assert line.startswith("FAIL  doveconf: Fatal: Error in configuration file")


def test_a_schedule_is_found_where_cron_keeps_them(tmp_path):
    from popbsmtp_wrap.doctor.expire_job import check_schedule

    table = tmp_path / "popbsmtp"
    table.write_text("# popbsmtp expire, one day\n")
    (found,) = check_schedule([str(tmp_path / "*")])
    assert found.level == "warn"
    table.write_text((Path(__file__).parent.parent.parent / "cron" / "popbsmtp").read_text())
    (found,) = check_schedule([str(tmp_path / "*")])
    assert str(found) == f"ok    {table} runs popbsmtp expire"


@pytest.mark.parametrize(
    ("grants", "expected"),
    [
        ("SELECT", "ok    Postfix's account reader may look up and nothing else"),
        ("SELECT, INSERT, UPDATE", "warn  Postfix's account reader may write; see sql/*/roles.sql"),
        ("DELETE", "FAIL  Postfix's account reader may not look up; see sql/*/roles.sql"),
    ],
)
def test_the_account_of_postfix_may_look_up_and_nothing_else(tmp_path, grants, expected):
    with Postgres(public_directory()) as server:
        server.create_database("mail")
        config = tmp_path / "popbsmtp.toml"
        secret = tmp_path / "reader"
        secret.write_text("reader's secret\n")
        secret.chmod(0o600)
        config.write_text(
            f'[database]\nurl = "{server.url("mail")}"\n'
            f'[postfix]\nuser = "reader"\npassword_file = "{secret}"\n'
        )
        config.chmod(0o600)
        subprocess.run([POPBSMTP, "-c", config, "init"], check=True)
        server.sql("CREATE ROLE reader LOGIN PASSWORD 'reader''s secret'")
        server.sql(f"GRANT {grants} ON popbsmtp TO reader", database="mail")
        done = subprocess.run([POPBSMTP, "-c", config, "doctor"], capture_output=True, text=True)
        assert expected in done.stdout.splitlines()
        assert server.password not in done.stdout + done.stderr
