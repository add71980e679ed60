"""[[watch.pattern]]: a site's own patterns, checked when they are loaded."""

import re
import time

import pytest

from popbsmtp_wrap.errors import BadValueError
from popbsmtp_wrap.logs.recogniser import LONGEST_LINE, Recogniser
from popbsmtp_wrap.logs.site_pattern import site_patterns

GOOD = {
    "name": "acme",
    "login": r"acme-(?P<service>imap|pop)\[[0-9]+\]: OK (?P<user>[^ ]++) from (?P<address>[^ ]++)$",
    "logout": r"acme-(?P<service>imap|pop)\[[0-9]++\]: BYE (?P<user>[^ ]++) (?P<address>[^ ]++)$",
    "sample": "Jun 14 10:00:00 mx acme-imap[77]: OK bob from 198.51.100.7",
}


def login(text):
    sample = "Jun 14 10:00:00 mx acme: OK 198.51.100.7"
    return [{"name": "acme", "login": text, "sample": sample}]


def test_an_own_pattern_counts_beside_the_others():
    recogniser = Recogniser(own=site_patterns([GOOD]))
    found = recogniser.recognise(GOOD["sample"].encode())
    assert (found.kind, found.server, found.address) == ("login", "acme", "198.51.100.7")
    assert (found.user, found.service, found.stamp) == ("bob", "imap", "Jun 14 10:00:00")
    found = recogniser.recognise(b"Jun 14 10:00:00 mx acme-pop[77]: BYE bob ::ffff:198.51.100.7")
    assert (found.kind, found.address, found.service) == ("logout", "198.51.100.7", "pop")
    assert recogniser.recognise(b"Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[198.51.100.7]")


def test_an_own_pattern_can_be_the_only_one():
    recogniser = Recogniser(["acme"], site_patterns([GOOD]))
    assert recogniser.recognise(GOOD["sample"].encode())
    assert not recogniser.recognise(b"Jun 14 10:00:00 mx imapd: LOGIN, user=bob, ip=[192.0.2.9]")


@pytest.mark.parametrize(
    "line",
    [
        # Another program quotes it.
        b"Jun 14 10:00:00 mx postfix[77]: acme-imap[77]: OK bob from 198.51.100.7",
        b"Jun 14 10:00:00 mx acme-imap[77]: OK bob from 198.51.100",
        b"Jun 14 10:00:00 mx acme-imap[77]: OK bob from 198.51.100.0/24",
        b"Jun 14 10:00:00 mx acme-imap[77]: OK bob from 0.0.0.0",
        b"Jun 14 10:00:00 mx acme-imap[77]: FAILED bob from 198.51.100.7",
    ],
)
def test_an_own_pattern_is_matched_from_the_programs_name_on(line):
    assert Recogniser(own=site_patterns([GOOD])).recognise(line) is None


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("acme", "tables"),
        (["acme"], "tables"),
        ([{"name": "acme"}], "tables"),
        ([GOOD | {"regex": "x"}], "tables"),
        ([GOOD | {"login": 1}], "text in quotes for login"),
        ([GOOD | {"logout": ""}], "text in quotes for logout"),
        ([GOOD | {"name": "Acme Mail"}], "a name of small letters"),
        ([GOOD, GOOD], "a name of its own"),
        ([GOOD | {"login": "acme: ((?P<address>.*)"}], "a regular expression for acme"),
        ([GOOD | {"login": "acme: (.*)"}], "the group (?P<address>...)"),
        ([GOOD | {"login": "(?P<address>x)(?P<mailbox>y)"}], "the group (?P<address>...)"),
        ([GOOD | {"sample": "Jun 14 10:00:00 mx acme: something else"}], "a sample"),
        ([GOOD | {"sample": GOOD["sample"] + "/24"}], "a sample"),
        ([GOOD | {"sample": "Jun 14 mx postfix: " + GOOD["sample"][19:]}], "a sample"),
        ([GOOD | {"sample": GOOD["sample"].rjust(LONGEST_LINE + 1)}], "a sample"),
        ([GOOD | {"sample": "Jun 14 10:00:00 mx acme-imap[77]: BYE bob 192.0.2.9"}], "a sample"),
    ],
)
def test_a_bad_pattern_is_refused_with_what_is_expected(bad, said):
    with pytest.raises(BadValueError, match=re.escape(said)):
        site_patterns(bad)


@pytest.mark.parametrize(
    "regex",
    [
        r"acme: (?:[A-Z]+)+ (?P<address>.*)$",
        r"acme: (?:a|aa)* (?P<address>.*)$",
        r"acme: (?:[^ ]* ?)*(?P<address>[0-9.]+)$",
        r"acme: .* .* (?P<address>.*)$",
        r"acme: (?P<user>.+)(?P<address>[0-9.]+)$",
        r"(?P<user>O)(?P=user)* (?P<address>.*)",
        r"acme: (?:(?:a{1,50}){1,50}){1,50}(?P<address>.*)",
    ],
)
def test_a_regular_expression_that_can_run_away_is_refused(regex):
    with pytest.raises(BadValueError, match=r"run away|recognises"):
        site_patterns(login(regex))


def test_a_group_that_gives_nothing_back_is_written_as_an_atomic_one():
    """Possessive, it matches too much before Python 3.11.5 (python/cpython#106052)."""
    with pytest.raises(BadValueError, match="run away"):
        site_patterns(login(r"acme: (?:OK x)?+OK (?P<address>[^ ]++)$"))
    assert site_patterns(login(r"acme: (?>(?:OK x)?)OK (?P<address>[^ ]++)$"))


@pytest.mark.parametrize(
    "regex",
    [
        r"acme: OK (?P<address>[0-9a-f:.]+)$",
        r"acme: [^ ]++ (?P<address>[0-9a-f:.]++)$",
        r"acme: (?:OK|YES) (?P<address>[^ ]+)",
        r"acme: .*? (?P<address>[0-9a-f:.]++)$",
    ],
)
def test_a_pattern_that_is_taken_is_never_slow(regex):
    (pattern,) = site_patterns(login(regex))
    head = b"Jun 14 10:00:00 mx acme: "
    for text in (b"OK ", b"a", b" ", b"1.", b"198.51.100.7 ", b": "):
        line = (head + text * LONGEST_LINE)[:LONGEST_LINE]
        started = time.process_time()
        pattern.read(line)
        assert time.process_time() - started < 1
