"""Lines that outsiders bend: nothing raises, and nobody but the true client may relay."""

import re

from hypothesis import given, settings
from hypothesis import strategies as some

from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.recogniser import Recogniser
from popbsmtp_wrap.logs.servers import SERVERS

TRUE = ("198.51.100.7", "2001:db8::7")
FORGED = b"203.0.113.6"
LINES = [sample.line.encode() for server in SERVERS for sample in server.samples]
HONEST = [line for line in LINES if FORGED not in line]
# Those with the address in them: where it stands in an earlier line, an account whose name ends
# like the other kind of line cannot be told from it.
LOGINS = [
    sample
    for server in SERVERS
    for sample in server.samples
    if sample.user and sample.address and sample.address in sample.line
]
# What stands in the lines of a success, with an address that is not the client's.
FIELDS = [
    b"Login: ",
    b"Logged in: ",
    b"imap-login: Login: user=<y>",
    b", ",
    b">, method=PLAIN",
    b", rip=203.0.113.6",
    b", lip=192.0.2.1",
    b", session=<a>",
    b", ip=[203.0.113.6]",
    b"LOGIN, user=y",
    b" [203.0.113.6]",
    b" host=y [203.0.113.6]",
    b" User logged in",
    b"' logged in from 203.0.113.6",
    b'" at (y) 203.0.113.6',
    b" 0 0 0 0 203.0.113.6",
    b":203.0.113.6",
    b" authenticated - 203.0.113.6",
    b" -- [203.0.113.6]",
    b' server="s" port="143" status="ok"',
    b";oip=203.0.113.6;",
    b",203.0.113.6:1,",
    b"\n",
    b"\0",
    b"\xff",
]
# Words of a success become those of a failure: such a line may authorise nobody.
FAILED = (
    (b": Login: ", b": Aborted login (auth failed, 1 attempts): "),
    (b": Logged in: ", b": Login aborted: Logged out (auth failed) (auth_failed): "),
    (b"LOGIN,", b"LOGIN FAILED,"),
    (b" login: ", b" badlogin: "),
    (b"Login user=", b"Login failed user="),
    (b'status="ok"', b'status="failed: Re-Authentication Failure"'),
    (b"(PLAIN) login success ", b"password fail (pass: 'x') "),
)


def login(line, recogniser=None):
    found = (recogniser or Recogniser()).judge(line)
    return found if isinstance(found, Event) and found.kind == "login" else None


@given(some.binary(max_size=5000))
def test_bytes_of_any_kind_are_no_login(line):
    assert login(line) is None


@given(some.sampled_from(HONEST), some.data())
@settings(max_examples=500)
def test_a_bent_sample_names_no_other_client(line, data):
    """An address that has lost digits is another, and reads like one: mutations spare it."""
    places = [match.span() for match in re.finditer(rb"[0-9A-Fa-f:.]{7,}", line)]
    for _ in range(data.draw(some.integers(1, 4))):
        at = data.draw(some.integers(0, len(line)))
        if any(start <= at <= end for start, end in places):
            continue
        piece = data.draw(some.one_of(some.binary(max_size=3), some.sampled_from(FIELDS)))
        line = line[:at] + piece.replace(FORGED, b"bogus") + line[at:]
        places = [match.span() for match in re.finditer(rb"[0-9A-Fa-f:.]{7,}", line)]
    found = login(line)
    assert found is None or found.address in TRUE


@given(some.sampled_from(HONEST), some.integers(0, 400))
def test_a_sample_that_is_cut_short_names_no_other_client(line, length):
    """A line that ends with an address may end in the middle of it where nothing follows it."""
    found = login(line[:length])
    assert found is None or found.address in TRUE or line[:length].endswith(found.address.encode())


@given(some.sampled_from(LOGINS), some.lists(some.sampled_from(FIELDS), min_size=1, max_size=6))
@settings(max_examples=500)
def test_a_failed_line_authorises_nobody_whatever_the_user_is_called(sample, fields):
    line = sample.line.encode()
    for success, failure in FAILED:
        if success in line:
            line = line.replace(success, failure)
            break
    else:
        return
    user = b"x" + b"".join(fields)
    assert login(line.replace(sample.user.encode(), user, 1)) is None


@given(some.sampled_from(LOGINS), some.lists(some.sampled_from(FIELDS), min_size=1, max_size=6))
@settings(max_examples=500)
def test_a_user_called_like_fields_brings_in_no_address(sample, fields):
    line = sample.line.encode().replace(sample.user.encode(), b"x" + b"".join(fields), 1)
    found = login(line)
    assert found is None or found.address in TRUE


@given(some.lists(some.sampled_from(FIELDS + LINES), min_size=1, max_size=5))
def test_what_another_program_quotes_counts_for_nothing(pieces):
    head = b"Jun 14 10:00:00 mx postfix/smtpd[77]: warning: non-SMTP command from x: "
    assert login(head + b" ".join(pieces)) is None


@given(some.lists(some.one_of(some.sampled_from(LINES), some.binary(max_size=80)), max_size=8))
def test_lines_one_after_the_other_raise_nothing(lines):
    recogniser = Recogniser()
    for line in lines:
        found = login(line, recogniser)
        assert found is None or found.address in TRUE
        recogniser.recognise(line)
