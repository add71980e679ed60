"""The data directory that every MariaDB server of a test run starts from."""

from pathlib import Path

from .directories import Template, give
from .process import PASSWORD, run

# The size that a start expects: another one would have the log rebuilt at each first start.
LOG_FILE_SIZE = "8M"

_ACCOUNTS = f"""\
DELETE FROM mysql.global_priv WHERE User IN ('', 'root');
FLUSH PRIVILEGES;
CREATE USER 'root'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;
CREATE USER 'root'@'localhost' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON *.* TO 'root'@'localhost' WITH GRANT OPTION;
CREATE USER 'replica'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT REPLICATION SLAVE ON *.* TO 'replica'@'%';
CREATE USER 'replica'@'localhost' IDENTIFIED BY '{PASSWORD}';
GRANT REPLICATION SLAVE ON *.* TO 'replica'@'localhost';
"""


def _install(target: Path) -> None:
    target.mkdir()
    give(target, "mysql", mode=0o700)
    # A server that starts removes what looks like temporary tables, other servers' included.
    temporary = target.with_name("temporary")
    temporary.mkdir()
    give(temporary, "mysql", mode=0o700)
    common = [
        f"--datadir={target}",
        f"--tmpdir={temporary}",
        f"--innodb-log-file-size={LOG_FILE_SIZE}",
    ]
    run(
        [
            *("mariadb-install-db", "--no-defaults", *common, "--skip-test-db"),
            "--auth-root-authentication-method=normal",
        ],
        user="mysql",
    )
    run(
        ["mariadbd", "--no-defaults", *common, "--bootstrap", "--skip-grant-tables=OFF"],
        user="mysql",
        text=_ACCOUNTS,
    )


TEMPLATE = Template("mariadb", _install)
