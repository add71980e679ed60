"""Whether the account of Postfix's maps can hold a row that a login needs."""

import re
from contextlib import closing
from pathlib import Path

import pymysql
import pytest

README = Path(__file__).parent.parent.parent / "sql" / "README.md"


def view():
    """Return the view that the administrator's page gives to Postfix."""
    return re.search(r"CREATE SQL SECURITY DEFINER VIEW[^;]*", README.read_text())[0]


@pytest.fixture
def reader(mysql_place):
    mysql_place.created()
    mysql_place.put("192.0.2.1", 60)
    server, name = mysql_place.server, mysql_place.name
    mysql_place.sql(
        view(),
        "CREATE USER reader@'%' IDENTIFIED BY 'secret'",
        f"GRANT SELECT ON {name}.popbsmtp_lookup TO reader@'%'",
    )
    try:
        with closing(
            pymysql.connect(
                host=server.host,
                port=server.port,
                user="reader",
                password="secret",
                database=name,
                ssl_disabled=True,
            )
        ) as connection:
            yield connection.cursor()
    finally:
        mysql_place.sql("DROP USER reader@'%'")


def test_account_that_reads_the_view_of_the_manual_holds_no_row(mysql_place, reader):
    reader.execute("BEGIN")
    question = "SELECT address FROM popbsmtp_lookup WHERE address = '192.0.2.1'"
    reader.execute(f"{question} FOR UPDATE")
    assert reader.fetchall() == (("192.0.2.1",),)
    mysql_place.sql("SET innodb_lock_wait_timeout = 1", "UPDATE popbsmtp SET username = 'x'")
    with pytest.raises(pymysql.err.OperationalError, match="denied"):
        reader.execute("SELECT address FROM popbsmtp FOR UPDATE")
    for number in range(2, 200):
        mysql_place.put(f"192.0.2.{number}", 60)
    plan = mysql_place.sql(f"EXPLAIN {question}")
    # MariaDB takes the condition into the view: one row, by the primary key.
    assert any(row[5] == "PRIMARY" or row[4] == "PRIMARY" for row in plan), plan
