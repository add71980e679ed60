"""Tables with a key of their own beside the address, as DBMail's: init ends, and logins go in."""

import subprocess
import sys
from pathlib import Path

import pytest

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import queries, upsert
from popbsmtp_wrap.store.dialects import dialect_named
from tests.store.places import ADDRESS, GRACE_S, postfix_permits

POPBSMTP = str(Path(sys.executable).with_name("popbsmtp"))
NAMES = {
    "table": "dbmail_pbsp",
    "address_column": "ipnumber",
    "last_seen_column": "since",
    "first_seen_column": "",
    "user_column": "",
    "service_column": "",
}
# DBMail 3.2, sql/*/create_tables.*
DBMAIL = {
    "mysql": [
        (
            "CREATE TABLE dbmail_pbsp (idnr bigint NOT NULL AUTO_INCREMENT,"
            " since datetime NOT NULL DEFAULT '1970-01-03', ipnumber varchar(40) NOT NULL,"
            " PRIMARY KEY (idnr), UNIQUE INDEX (ipnumber), INDEX (since)) ENGINE InnoDB"
        )
    ],
    "postgresql": [
        (
            "CREATE TABLE dbmail_pbsp (idnr bigserial PRIMARY KEY, since timestamp NOT NULL"
            " DEFAULT '1970-01-03', ipnumber varchar(40) NOT NULL)"
        ),
        "CREATE UNIQUE INDEX dbmail_idx_ipnumber ON dbmail_pbsp (ipnumber)",
        "CREATE INDEX dbmail_idx_since ON dbmail_pbsp (since)",
    ],
    "sqlite": [
        (
            "CREATE TABLE dbmail_pbsp (idnr INTEGER PRIMARY KEY,"
            " since DATETIME DEFAULT '0' NOT NULL, ipnumber VARCHAR(40) NOT NULL)"
        ),
        "CREATE UNIQUE INDEX dbmail_idx_ipnumber ON dbmail_pbsp (ipnumber)",
        "CREATE INDEX dbmail_idx_since ON dbmail_pbsp (since)",
    ],
}
WITHOUT_A_KEY = {
    "mysql": "CREATE TABLE dbmail_pbsp (idnr bigint AUTO_INCREMENT PRIMARY KEY,"
    " since timestamp NOT NULL, ipnumber varchar(40) NOT NULL)",
    "postgresql": "CREATE TABLE dbmail_pbsp (idnr bigserial PRIMARY KEY,"
    " since timestamptz NOT NULL, ipnumber varchar(40) NOT NULL)",
    "sqlite": "CREATE TABLE dbmail_pbsp (idnr INTEGER PRIMARY KEY, since INTEGER NOT NULL,"
    " ipnumber VARCHAR(40) NOT NULL)",
}


def init(place, tmp_path):
    config = tmp_path / "popbsmtp.toml"
    config.write_text(
        f'[database]\nurl = "{place.database.url}"\n'
        + "".join(f'{name} = "{value}"\n' for name, value in NAMES.items())
    )
    config.chmod(0o600)
    return subprocess.run(
        [POPBSMTP, "-c", str(config), "init"], capture_output=True, text=True, timeout=120
    )


def assert_serves(place):
    store = place.store(**NAMES)
    for _ in range(2):
        upsert.record(store, Login(ADDRESS))
    assert [row.address for row in queries.rows(store, GRACE_S)] == [ADDRESS]
    assert postfix_permits(store, ADDRESS)


@pytest.mark.parametrize("statements", [DBMAIL, WITHOUT_A_KEY], ids=["dbmail", "without a key"])
def test_init_ends_when_its_sql_was_run(place, tmp_path, statements):
    made = statements[place.kind]
    place.sql(*([made] if isinstance(made, str) else made))
    first = init(place, tmp_path)
    assert first.returncode == 78
    assert "change it with this SQL:" in first.stderr
    assert first.stdout
    place.sql(*(part for part in first.stdout.split(";\n") if part.strip()))
    second = init(place, tmp_path)
    assert (second.returncode, second.stdout) == (0, "table dbmail_pbsp is right\n"), second.stderr
    assert_serves(place)


def test_a_second_key_is_a_warning_where_replication_could_suffer(place, tmp_path):
    place.sql(WITHOUT_A_KEY[place.kind], "CREATE UNIQUE INDEX one ON dbmail_pbsp (ipnumber)")
    place.sql("CREATE INDEX two ON dbmail_pbsp (since)")
    if place.kind == "mysql":
        place.sql("ALTER TABLE dbmail_pbsp MODIFY since timestamp NOT NULL DEFAULT now()")
    done = init(place, tmp_path)
    assert (done.returncode, done.stdout) == (0, "table dbmail_pbsp is right\n"), done.stderr
    unsafe = dialect_named(place.kind).has_unsafe_upserts
    assert ("binlog_format has to be ROW or MIXED" in done.stderr) == unsafe
    assert_serves(place)
