"""An address that its column would cut is refused, whatever the server's sql_mode says."""

from contextlib import closing

import pytest

from popbsmtp_wrap.errors import MisfitError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store import upsert
from popbsmtp_wrap.store.batch import Outcome
from tests.store.test_refused_rows import resident, seen

SHORT, OF_ANOTHER, CUT = "192.0.2.1", "198.51.100.7", "198.51.100.77"


@pytest.fixture
def sql_mode(mysql_place):
    """Set the sql_mode of sessions to come."""
    [(before,)] = mysql_place.sql("SELECT @@GLOBAL.sql_mode")
    yield lambda mode: mysql_place.sql(f"SET GLOBAL sql_mode = '{mode}'")
    mysql_place.sql(f"SET GLOBAL sql_mode = '{before}'")


MODES = ("", "NO_ENGINE_SUBSTITUTION", "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION")


@pytest.mark.parametrize("engine", ["InnoDB", "MyISAM"])
@pytest.mark.parametrize("mode", MODES)
def test_an_address_that_is_too_long_lets_nobody_else_relay(mysql_place, sql_mode, mode, engine):
    sql_mode(mode)
    store = mysql_place.created()
    mysql_place.sql(
        f"ALTER TABLE popbsmtp ENGINE = {engine},"
        " MODIFY address varchar(12) CHARACTER SET ascii NOT NULL"
    )
    with pytest.raises(MisfitError):
        upsert.record(store, Login(CUT, "bob"))
    with closing(resident(mysql_place)) as writer:
        outcome = writer.write(seen(Login(SHORT, "ann"), Login(CUT, "bob")))
        assert [refused.seen.login.address for refused in outcome.refused] == [CUT]
        assert not writer.write_at_once(seen(Login(SHORT, "ann"), Login(CUT, "bob")), 5)
    assert mysql_place.addresses() == [SHORT]


@pytest.mark.parametrize("mode", MODES)
def test_a_name_that_is_too_long_costs_no_login(mysql_place, sql_mode, mode):
    sql_mode(mode)
    mysql_place.created()
    mysql_place.sql("ALTER TABLE popbsmtp MODIFY username varchar(5)")
    with closing(resident(mysql_place)) as writer:
        assert writer.write(seen(Login(OF_ANOTHER, "x" * 30), Login(SHORT, "ann"))) == Outcome()
    assert mysql_place.addresses() == [SHORT, OF_ANOTHER]


def test_the_modes_of_the_server_stay(mysql_place, sql_mode):
    sql_mode("ANSI_QUOTES,NO_BACKSLASH_ESCAPES")
    store = mysql_place.created()
    with store.engine.connect() as connection:
        modes = connection.exec_driver_sql("SELECT @@sql_mode").scalar().split(",")
    assert set(modes) == {"ANSI_QUOTES", "NO_BACKSLASH_ESCAPES", "STRICT_ALL_TABLES"}
    upsert.record(store, Login(OF_ANOTHER, "o'neill\\"))
    assert mysql_place.addresses() == [OF_ANOTHER]
