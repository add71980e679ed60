"""popbsmtp doctor and sessions that stay open, where Dovecot does not run."""

import pytest

from tests.servers.doctor_site import Site

CUT_OFF = "clients that stay connected may not send after grace"


@pytest.fixture
def site():
    return Site()


def said(site):
    """Return what doctor says of sessions."""
    _, lines = site.doctor()
    (found,) = [line for line in lines if "open sessions" in line or CUT_OFF in line]
    return found


def test_what_the_toolkit_prints_lets_the_recorders_user_ask(site):
    assert said(site) == "ok    dovecot may ask Dovecot for open sessions, once it runs"


@pytest.mark.parametrize("owner", ["", "user = mail", "group = dovecot"])
def test_an_owner_who_is_not_the_recorders_user_is_warned_of(site, owner):
    site.edit_dovecot(r"(unix_listener anvil \{\n) *user = dovecot", rf"\1{owner}")
    assert said(site) == (
        f"warn  dovecot may not ask Dovecot for open sessions: {CUT_OFF};"
        " add the service anvil that popbsmtp dovecot prints, and restart Dovecot"
    )


def test_root_may_ask_anyway(site):
    site.edit_dovecot(r"(unix_listener anvil \{\n) *user = dovecot", r"\1")
    site.edit_config('user = "dovecot"', 'user = ""')
    assert said(site) == "ok    root may ask Dovecot for open sessions, once it runs"


def test_renewal_that_is_off_is_said(site):
    site.edit_config("[recorder]", "[sessions]\nrenew = 0\n[recorder]")
    assert said(site) == f"ok    sessions.renew is off: {CUT_OFF}"
