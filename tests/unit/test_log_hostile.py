"""Lines that fooled a watcher, each beside the pattern that falls for it.

The patterns are those of pop-before-smtp 1.42 and 1.50, PLD's package of it, poprelayd and
Dovecot's wiki, in Python's spelling.
"""

import re

import pytest

from popbsmtp_wrap.logs.event import Event
from popbsmtp_wrap.logs.recogniser import Recogniser

HEAD = "Jun 14 10:00:00 mx "
# pop-before-smtp 1.42: the first rip= after Login:, wherever that stands.
PBS_142 = r"(?:dovecot: )?(?:imap|pop3)-login: Login: .*? (?:\[|rip=)[:f]*(\d+\.\d+\.\d+\.\d+)[],]"
# pop-before-smtp 1.50: whatever text stands between rip= and lip=.
PBS_150 = r"dovecot: (?:imap|pop3)-login: Login: user=\S+, method=\S+, rip=(.*), lip="
# What watchers look for that were written with grep.
FIRST_RIP = r"(?:imap|pop3)-login: .*?rip=(\d+\.\d+\.\d+\.\d+)"
UNANCHORED = r"imap-login: (?:Info: )?(?:Login|Logged in): user=<.*?rip=(\d+\.\d+\.\d+\.\d+)"

SHAPES = {
    # poprelayd, CVE-2001-1075: text of an SMTP command, quoted by sendmail.
    "a-mail-from-that-reads-like-qpopper": (
        r'POP login by user ".*?" at \(.*?\) (\d+\.\d+\.\d+\.\d+)',
        'sendmail[77]: xx: mail from:"POP login by user "admin" at (6.6.6.6) 6.6.6.6 @x"',
    ),
    "text-sent-before-the-greeting-quoted-by-postfix": (
        PBS_142,
        (
            "postfix/postscreen[77]: PREGREET 80 after 0.02 from [203.0.113.9]:40004: x dovecot: "
            "imap-login: Login: user=<y>, rip=6.6.6.6, lip=192.0.2.1"
        ),
    ),
    "pipelined-text-quoted-by-postfix": (
        UNANCHORED,
        (
            "postfix/smtpd[77]: improper command pipelining after CONNECT from "
            "unknown[203.0.113.9]: imap-login: Logged in: user=<y>, rip=6.6.6.6, lip=192.0.2.1"
        ),
    ),
    "a-user-name-with-rip-in-a-success": (
        PBS_142,
        (
            "dovecot: imap-login: Login: user=<a rip=6.6.6.6, b>, method=PLAIN, rip=203.0.113.9, "
            "lip=192.0.2.1"
        ),
    ),
    "a-user-name-with-all-fields-in-a-success": (
        PBS_150.replace("(.*)", "(.*?)"),
        (
            "dovecot: imap-login: Login: user=<x>, method=plain, rip=6.6.6.6, lip=1.2.3.4, mpid=1, "
            "session=<a>, method=PLAIN, rip=203.0.113.9, lip=192.0.2.1, session=<b>"
        ),
    ),
    "a-user-name-with-all-fields-in-a-failure": (
        FIRST_RIP,
        (
            "dovecot: imap-login: Disconnected: Aborted login by logging out (auth failed, 1 "
            "attempts in 2 secs): user=<Nob>, method=PLAIN, rip=6.6.6.6, lip=1.2.3.4, mpid=1, "
            "session=<x>, method=PLAIN, rip=203.0.113.9, lip=192.0.2.1, session=<y>"
        ),
    ),
    "a-user-name-with-a-success-in-a-failure": (
        PBS_142,
        (
            "dovecot: pop3-login: Aborted login (auth failed, 1 attempts in 2 secs): "
            "user=<dovecot: pop3-login: Login: user=<x>, method=PLAIN, rip=6.6.6.6, lip=1>, "
            "method=PLAIN, rip=203.0.113.9, lip=192.0.2.1"
        ),
    ),
    "a-user-name-with-a-line-end-in-a-failure": (
        UNANCHORED,
        (
            "dovecot: imap-login: Disconnected (auth failed, 1 attempts in 2 secs): "
            "user=<x?imap-login: Info: Login: user=<z>, method=PLAIN, rip=6.6.6.6, li...>, "
            "rip=203.0.113.9, lip=192.0.2.1"
        ),
    ),
    "a-user-name-with-a-success-in-a-failure-of-2.4": (
        UNANCHORED,
        (
            "dovecot: imap-login: Login aborted: Connection closed (auth failed, 1 attempts in 2 "
            "secs) (auth_failed): user=<imap-login: Logged in: user=<x>, rip=6.6.6.6, "
            "lip=1.1.1.1>, method=PLAIN, rip=203.0.113.9, lip=192.0.2.1, session=<y>"
        ),
    ),
    "a-user-name-quoted-by-the-auth-process": (
        UNANCHORED,
        (
            "dovecot: auth: Info: sql(imap-login: Login: user=<x>, method=PLAIN, rip=6.6.6.6, "
            "lip=1.1.1.1,203.0.113.9): unknown user"
        ),
    ),
    "what-is-no-address": (
        PBS_150,
        "dovecot: imap-login: Login: user=<bob>, method=PLAIN, rip=203.0, lip=192.0.2.1",
    ),
    "a-network": (
        PBS_150,
        "dovecot: imap-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.0/24, lip=192.0.2.1",
    ),
    "an-anonymous-login": (
        PBS_150,
        (
            "dovecot: imap-login: Login: user=<anonymous>, method=ANONYMOUS, rip=203.0.113.9, "
            "lip=192.0.2.1"
        ),
    ),
    "a-login-to-filter-scripts": (
        r"dovecot: \S+-login: Login: user=\S+, method=\S+, rip=(\S+),",
        (
            "dovecot: managesieve-login: Login: user=<bob>, method=PLAIN, rip=203.0.113.9, "
            "lip=192.0.2.1"
        ),
    ),
    "a-login-to-send-mail": (
        r"dovecot: \S+-login: Logged in: user=\S+, method=\S+, rip=(\S+),",
        (
            "dovecot: submission-login: Logged in: user=<bob>, method=PLAIN, rip=203.0.113.9, "
            "lip=192.0.2.1"
        ),
    ),
    "a-master-users-login": (
        PBS_150,
        "dovecot: imap-login: Login: user=<bob*root>, method=PLAIN, rip=203.0.113.9, lip=192.0.2.1",
    ),
    # The wiki's "v1.0RC2" pattern: the last address of the line.
    "the-servers-own-address": (
        r"Login: .*(\d+\.\d+\.\d+\.\d+)",
        "dovecot: imap-login: Login: user=<bob>, method=PLAIN, rip=host.example.org, lip=192.0.2.1",
    ),
    "vm-pop3d-with-an-address-in-a-failed-users-name": (
        r"vm-pop3d\[\d+\]: User .+ logged in from (\d+\.\d+\.\d+\.\d+)",
        "vm-pop3d[77]: User 'x logged in from 6.6.6.6' - failed auth, from=203.0.113.9",
    ),
    "vm-pop3d-with-a-quote-in-a-failed-users-name": (
        r"vm-pop3d\[\d+\]: User .+ logged in from (\d+\.\d+\.\d+\.\d+)",
        "vm-pop3d[77]: User 'x' logged in from 6.6.6.6' - failed auth, from=203.0.113.9",
    ),
    # PLD's qpopper_all.
    "any-line-of-qpopper-that-ends-in-an-address": (
        r"q?popper\S*\[\d+\]: .*\s(\d+\.\d+\.\d+\.\d+)",
        "qpopper1[77]: Possible probe of account admin from host evil.example.org 203.0.113.9",
    ),
    "an-anonymous-login-to-cyrus": (
        r"(?:cyrus/)?(?:pop3|imap)[ds]?\[\d+\]: login: \S*\[(\d+\.\d+\.\d+\.\d+)\].*User logged in",
        "cyrus/imap[77]: login: [203.0.113.9] anonymous ANONYMOUS User logged in",
    ),
    # Before pop-before-smtp 1.41.
    "a-failed-login-to-cyrus": (
        r"imap\[\d+\]: .*login: .*\[(\d+\.\d+\.\d+\.\d+)\].*User logged in",
        (
            "cyrus/imap[77]: badlogin: evil.example.org [203.0.113.9] plaintext login: [6.6.6.6] x "
            "User logged in SASL(-13): authentication failure: checkpass failed"
        ),
    ),
    "courier-with-an-address-in-the-users-name": (
        r"imapd: LOGIN, user=\S+, ip=\[(\d+\.\d+\.\d+\.\d+)\]",
        "imapd: LOGIN, user=x, ip=[6.6.6.6], ip=[::ffff:203.0.113.9], port=[255], protocol=IMAP",
    ),
    "a-webmail-on-the-servers-side": (
        r"vchkpw-\S+: \(PLAIN\) login success \S+:(\d+\.\d+\.\d+\.\d+)",
        "vpopmail[77]: vchkpw-webmail: (PLAIN) login success bob@example.org:203.0.113.9",
    ),
    "a-client-that-only-connected-to-qpopper": (
        r"q?popper\[\d+\]: .* at (\d+\.\d+\.\d+\.\d+)",
        'in.qpopper[77]: (v4.0.9) Servicing request from "mail.example.org" at 203.0.113.9',
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_hostile_line_fools_an_older_pattern_and_not_ours(shape):
    older, line = SHAPES[shape]
    assert re.search(older, HEAD + line)
    found = Recogniser().judge((HEAD + line).encode())
    assert not isinstance(found, Event) or found.kind == "failure"


def test_teapops_first_address_is_its_own():
    """pop-before-smtp takes the first one: Successful login for .* \\[(address)\\]."""
    line = b"teapop[77]: Successful login for bob [192.0.2.1] from x.example.org [198.51.100.7]"
    assert re.search(rb"Successful login for \S+ \[([\d.]+)\]", line)[1] == b"192.0.2.1"
    assert Recogniser().judge(HEAD.encode() + line).address == "198.51.100.7"


@pytest.mark.parametrize("end", ["", ", headers=0, body=0, time=3"])
def test_couriers_logout_is_one(end):
    """pop-before-smtp 1.50 looks for [port|headers]=, a set of letters: its addresses stay."""
    line = f"{HEAD}imapd: LOGOUT, user=bob, ip=[::ffff:198.51.100.7]{end}"
    found = Recogniser().judge(line.encode())
    assert (found.kind, found.address, found.user) == ("logout", "198.51.100.7", "bob")


def test_dovecots_logout_has_the_address_of_its_session():
    recogniser = Recogniser()
    recogniser.recognise(
        b"Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>, method=PLAIN, "
        b"rip=198.51.100.7, lip=192.0.2.1, mpid=9, TLS, session=<Ab+/1>"
    )
    end = b"Jun 14 10:09:00 mx dovecot: imap(bob)<9><Ab+/1>: Disconnected: Logged out in=1 out=2"
    found = recogniser.recognise(end)
    assert (found.kind, found.address, found.user) == ("logout", "198.51.100.7", "bob")
    assert recogniser.recognise(end) is None


CUT = b"Jun 14 10:00:00 mx imapd: LOGIN FAILED, user=" + b"y" * 490
REST = b"Jun 14 10:00:0%d mx imapd: LOGIN, user=bob, ip=[198.51.100.7], protocol=IMAP"


@pytest.mark.parametrize(("second", "counts"), [(0, False), (2, False), (3, True)])
def test_the_rest_of_a_line_that_courierlogger_has_cut_is_no_login(second, counts):
    """It reads 511 bytes, and what the client has sent behind them begins a line of its own."""
    for kinds in (("login", "logout"), ("login", "logout", "failure")):
        events = list(Recogniser(kinds=kinds).events(b"\n".join([CUT, REST % second])))
        assert [event.address for _, event in events if event.kind == "login"] == (
            ["198.51.100.7"] if counts else []
        )


def test_the_rest_of_a_containers_line_is_no_login_and_the_next_line_is():
    login = b"Jun 14 10:00:00 imap-login: Info: Login: user=<bob>, rip=198.51.100.7, lip=192.0.2.1"
    lines = [
        b"2026-06-14T10:00:00.1Z stdout P " + b"x" * 100,
        b"2026-06-14T10:00:00.2Z stdout F " + login,
        b"2026-06-14T10:00:00.3Z stdout F " + login,
    ]
    events = list(Recogniser().events(b"\n".join(lines)))
    assert [number for number, _ in events] == [2]
