"""The gate passes over no line that says something: many lines at once are judged as one by one."""

from hypothesis import given, settings
from hypothesis import strategies as some

from popbsmtp_wrap.logs.recogniser import KINDS, LONGEST_LINE, Recogniser
from popbsmtp_wrap.logs.servers import SERVERS
from popbsmtp_wrap.logs.site_pattern import site_patterns

LINES = [sample.line.encode() for server in SERVERS for sample in server.samples]
MESSAGES = [line.split(b": ", 1)[-1] for line in LINES]
STAMPS = [
    b"Jun 14 10:00:00 ",
    b"Jun  4 10:00:00 ",
    b"Jun 4 10:00:00 ",
    b"Jun 14 10:00:00.123 ",
    b"Jun 14 2026 10:00:00 ",
    b"Sun Jun 14 10:00:00 2026 ",
    b"<22>Jun 14 10:00:00 ",
    b"2026-06-14T10:00:00.123456+02:00 ",
    b"<22>2026-06-14T10:00:00Z ",
    b"2026-06-14 10:00:00 ",
    b"2026-06-14 10:00:00 +0200 ",
    b"2026-06-14 10:00:00,123 ",
    b"2026-06-14T10:00:00.678Z,",
    b"<22>1 2026-06-14T10:00:00Z ",
    b"@4000000065a1b2c3075bcd15 ",
    b"1700000000.123 ",
    b"Xyz ab cd:ef:gh ",
    b"",
]
HOSTS = [b"", b"mx ", b"mail.info ", b"mail.info mx ", b"<mail.info> ", b"2001:db8::1 ", b"imap "]
HOSTS += [
    b"mx: ",
    b"[192.0.2.1] ",
    b"imap(x ",
    b"INFO  ",
    b"0000000000000010,2,",
    b" ",
    b"postfix/ ",
]
TAGS = [b"dovecot", b"dovecot-2", b"imapd", b"pop3d", b"popa3d", b"postfix/smtpd", b"cyrus/imap"]
TAGS += [b"/usr/sbin/imapd", b"/a/imapfoo", b"in.popa3d", b"vm-pop3d", b"imap-login", b"popper"]
TAGS += [b"imap(bob)<9><s>", b"imap(x: y)<9><s>", b"[pop3d]", b"spop3d", b"acme", b"POP User", b""]
PIDS = [b": ", b"[77]: ", b"[77]:", b" 77 - - ", b' - ID [o@1 a="x] y"] ', b": [ID 1 mail.info] "]
PIDS += [b"[INFO]: ", b" "]
OWN = site_patterns(
    [
        {
            "name": "acme",
            "login": r"(?:acme|postfix/smtpd)(?:\[[0-9]+\])?: OK (?P<address>[^ ]++)$",
            "sample": "Jun 14 10:00:00 mx acme: OK 198.51.100.7",
        }
    ]
)
ANY_LINE = some.one_of(
    some.sampled_from(LINES),
    some.tuples(
        some.sampled_from(STAMPS),
        some.sampled_from(HOSTS),
        some.sampled_from(TAGS),
        some.sampled_from(PIDS),
        some.sampled_from([*MESSAGES, b"OK 198.51.100.7"]),
    ).map(b"".join),
    some.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")),
    some.sampled_from(
        [b"", b"\0\0" + LINES[0], LINES[0] + b"\r", LINES[0].ljust(LONGEST_LINE + 1)]
    ),
)


@given(some.lists(ANY_LINE, max_size=12), some.sets(some.sampled_from(KINDS)), some.booleans())
@settings(max_examples=300)
def test_many_lines_at_once_say_what_each_of_them_says(lines, kinds, has_own):
    own = OWN if has_own else ()
    alone = Recogniser(own=own)
    found = [(number, alone.recognise(line)) for number, line in enumerate(lines)]
    expected = [(number, event) for number, event in found if event and event.kind in kinds]
    assert list(Recogniser(own=own, kinds=kinds).events(b"\n".join(lines))) == expected
    with_end = b"".join(line + b"\n" for line in lines)
    assert list(Recogniser(own=own, kinds=kinds).events(with_end)) == expected
    read = list(Recogniser(own=own, kinds=kinds).read(lines))
    assert read == [event for _, event in expected]


def test_a_message_of_the_journal_with_line_ends_is_one_line():
    forged = b"Jun 14 10:00:00 mx postfix/smtpd[77]: x\n" + LINES[0]
    assert list(Recogniser().read([forged])) == []
    assert len(list(Recogniser().read([forged, LINES[0]]))) == 1


def test_lines_of_other_programs_are_passed_over():
    """Or the gate is of no use."""
    gate = Recogniser(kinds=("login",))._gate
    for line in (
        b"Jun 14 10:00:00 mx postfix/smtpd[77]: connect from imap.example.net[203.0.113.9]",
        b"<22>1 2026-06-14T10:00:00Z mx postfix/smtpd 77 - - connect from x[203.0.113.9]",
        b"Jun 14 10:00:00 <mail.info> mx postfix/smtpd[77]: connect from x[203.0.113.9]",
        b"@4000000065a1b2c3075bcd15 imapd: LOGOUT, user=x, ip=[::ffff:192.0.2.9]",
        b"<22>1 2026-06-14T10:00:00Z mx dovecot 77 - - imap-login: Disconnected: user=<x>",
        b"2026-06-14T10:00:00.123456+02:00 mx dovecot: lmtp(77): Connect from local",
        b"Jun 14 10:00:00 mx dovecot: imap-login: Disconnected: user=<x>, rip=192.0.2.9",
        b"Jun 14 10:00:00 imap-login: Info: Aborted login: user=<x>, rip=192.0.2.9",
        b"Jun 14 10:00:00 mx imapd: LOGIN FAILED, user=x, ip=[::ffff:192.0.2.9]",
        b"Jun 14 10:00:00 mx cyrus/imap[77]: badlogin: x [192.0.2.9] plaintext x SASL(-13)",
    ):
        assert not gate.search(b"\n" + line), line


def test_own_patterns_alone_are_found_among_many_lines():
    lines = [LINES[0], b"Jun 14 10:00:00 mx acme: OK 198.51.100.7", b"Jun 14 10:00:00 mx acme: NO"]
    (found,) = Recogniser(["acme"], OWN).events(b"\n".join(lines))
    assert (found[0], found[1].server, found[1].address) == (1, "acme", "198.51.100.7")
