"""Lines of Dovecot, and what each proves; dovecot.py has the patterns."""

from typing import Final

from popbsmtp_wrap.logs.pattern import Sample

IN_SYSLOG: Final = (
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1, mpid=9, TLS, session=<Ab+/1>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot[77]: pop3-login: Login: user=<bob@example.org>, "
        "method=PLAIN, rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob@example.org",
    ),
    Sample(
        "<22>Jun  4 10:00:00 mx dovecot: pop3-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14T10:00:00.123456+02:00 mx dovecot: imap-login: Logged in: user=<bob>, "
        "method=PLAIN, rip=2001:db8::7, lip=2001:db8::1, mpid=9, TLS, session=<a>",
        "2001:db8::7",
        "bob",
    ),
    Sample(
        "<22>1 2026-06-14T10:00:00Z mx dovecot 77 - - imap-login: Logged in: user=<bob>, "
        "method=PLAIN, rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        '<22>1 2026-06-14T10:00:00Z mx dovecot - - [o@1 a="x] y"] imap-login: Login: '
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14T10:00:00+0200 mx dovecot[77]: imap-login: Login: user=<bob>, "
        "method=PLAIN, rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 imap-login: Info: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1, mpid=9, secured, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14 10:00:00 imap-login: Info: Logged in: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "@4000000065a1b2c3075bcd15 pop3-login: Info: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "dovecot: Jun 14 10:00:00 Info: imap-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1, secured",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "dovecot: 2026-06-14 10:00:00 Info: pop3-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample("Jun 14 10:00:00 mx imap-login: Login: bob [198.51.100.7]", "198.51.100.7", "bob"),
    Sample(
        "imap-login: Jun 14 10:00:00 Info: Login: bob [::ffff:198.51.100.7]", "198.51.100.7", "bob"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: rip=198.51.100.7, user=<bob>, "
        "lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=bob, rip=198.51.100.7, TLS",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>, session=<a>, "
        "method=PLAIN, rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1: Login"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Started proxying to remote host (0.050 secs): "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, TLS, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: proxy(bob): started proxying to "
        "192.0.2.9:143: user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: proxy(bob,192.0.2.9:143): Started proxying to "
        "<192.0.2.9> (0.056 secs): user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, TLS",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: proxy(x): started proxying to h:1: user=<x>, "
        "rip=203.0.113.6, lip=192.0.2.1): Login failed to h:143: user=<x): started proxying to "
        "h:1: user=<x>, rip=203.0.113.6, lip=192.0.2.1>, method=PLAIN, rip=198.51.100.7, "
        "lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1, TLS, TLSv1.3 with cipher "
        "TLS_AES_256_GCM_SHA384 (256/256 bits)",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Aborted login (auth failed, 1 "
        "attempts): user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login aborted: Logged out (auth failed) "
        "(auth_failed): user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: managesieve-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot-managesieve-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: submission-login: Logged in: user=<bob>, "
        "method=PLAIN, rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<anonymous>, "
        "method=ANONYMOUS, rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob*root>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>, method=PLAIN, "
        "rip=198.51.100.7, lip=192.0.2.1, master_user=root"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<bob>, method=PLAIN, rip=198.51.100.7"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: imap-login: Login: user=<x>, method=PLAIN, "
        "rip=203.0.113.6, lip=192.0.2.1>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1"
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot: auth: Info: sql(imap-login: Login: user=<x>, "
        "method=PLAIN, rip=198.51.100.7, lip=192.0.2.1,203.0.113.9): unknown user"
    ),
)
IN_LOGS_OF_ITS_OWN: Final = (
    Sample(
        "2026-06-14T10:00:00.123456789Z Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14T10:00:00.123456789Z stdout F Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "dovecot-1  | Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "@4000000065a1b2c3075bcd15 Jun 14 10:00:00 pop3-login: Info: Logged in: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14 10:00:00.123456789  Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14_10:00:00.12345 Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 mx dovecot[812]: Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "Jun 14 10:00:00 Info: imap-login: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>",
        "198.51.100.7",
        "bob",
    ),
    Sample(
        "2026-06-14T10:00:00.123456789Z stdout P Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>"
    ),
    Sample(
        "2026-06-14T10:00:00Z Jun 14 10:00:00 imap-login: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>"
    ),
    Sample(
        "dovecot-1  | Jun 14 10:00:00 auth: Info: imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>"
    ),
    Sample(
        "Jun 14 10:00:00 mx app[812]: Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>"
    ),
    Sample(
        "Jun 14 10:00:00 mx Info: imap-login: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>"
    ),
    Sample(
        "web | web | Jun 14 10:00:00 imap-login: Info: Login: "
        "user=<bob>, method=PLAIN, rip=198.51.100.7, lip=192.0.2.1, session=<a>"
    ),
)
