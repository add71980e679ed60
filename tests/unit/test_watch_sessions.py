"""Sessions that stay open, counted from logs."""

from popbsmtp_wrap.watch.observed_login import ObservedLogin
from popbsmtp_wrap.watch.open_sessions import OpenSessions

EVERY_S = 600.0
MAX_S = 43200.0
PHONE = "198.51.100.7"


def seen(at, address=PHONE, service="imap"):
    return ObservedLogin(address, "alice", service, at)


def sessions(most=100):
    """Return the sessions of a courier that has logged a logout before."""
    counted = OpenSessions(most)
    counted.logout("courier", "imap", "203.0.113.99")
    return counted


def due(counted, now):
    return [sighting.address for sighting in counted.due(now, EVERY_S, MAX_S)]


def test_an_open_session_is_renewed_in_time_and_not_before():
    counted = sessions()
    counted.login("courier", seen(0.0))
    assert due(counted, 599.9) == []
    assert due(counted, 600.0) == [PHONE]
    assert due(counted, 1199.9) == []
    assert due(counted, 1200.0) == [PHONE]


def test_a_renewal_counts_from_its_own_moment():
    counted = sessions()
    counted.login("courier", seen(0.0))
    assert list(counted.due(700.0, EVERY_S, MAX_S)) == [seen(700.0)]


def test_a_session_that_ended_is_not_renewed():
    counted = sessions()
    counted.login("courier", seen(0.0))
    counted.logout("courier", "imap", PHONE)
    assert due(counted, 600.0) == []
    assert len(counted) == 0


def test_an_address_stays_until_its_last_session_ends():
    counted = sessions()
    counted.login("courier", seen(0.0))
    counted.login("courier", seen(1.0))
    counted.logout("courier", "imap", PHONE)
    assert due(counted, 601.0) == [PHONE]
    counted.logout("courier", "imap", PHONE)
    assert due(counted, 1201.0) == []


def test_a_lost_logout_does_not_renew_for_ever():
    counted = sessions()
    counted.login("courier", seen(0.0))
    assert due(counted, MAX_S) == [PHONE]
    assert due(counted, MAX_S + EVERY_S) == []
    assert len(counted) == 0


def test_lost_logouts_of_a_client_that_comes_every_hour_end_one_by_one():
    counted = sessions()
    for hour in range(24):
        counted.login("courier", seen(hour * 3600.0))
    assert due(counted, 23 * 3600.0 + MAX_S) == [PHONE]
    assert due(counted, 23 * 3600.0 + MAX_S + EVERY_S) == []


def test_a_server_that_logs_no_logout_opens_nothing_for_long():
    counted = OpenSessions()
    counted.login("dovecot", seen(0.0))
    assert due(counted, 600.0) == []


def test_a_logout_by_one_service_says_nothing_of_another():
    counted = sessions()
    counted.login("courier", seen(0.0, service="pop3"))
    counted.login("dovecot", seen(0.0))
    assert due(counted, 600.0) == []


def test_a_logout_of_a_session_that_nobody_counted_authorises_less_not_more():
    counted = sessions()
    counted.logout("courier", "imap", PHONE)
    counted.login("courier", seen(0.0))
    counted.logout("courier", "imap", PHONE)
    counted.logout("courier", "imap", PHONE)
    assert due(counted, 600.0) == []


def test_memory_is_bounded_and_who_logged_in_first_goes():
    counted = sessions(most=2)
    for last in (1, 2, 3):
        counted.login("courier", seen(0.0, f"198.51.100.{last}"))
    assert due(counted, 600.0) == ["198.51.100.2", "198.51.100.3"]


def test_sessions_of_one_address_are_bounded():
    counted = sessions()
    for number in range(1000):
        counted.login("courier", seen(float(number)))
    for _ in range(64):
        counted.logout("courier", "imap", PHONE)
    assert len(counted) == 0
