"""Dovecot 0.99 to 2.4."""

from typing import Final

from popbsmtp_wrap.log_header import STAMP
from popbsmtp_wrap.sources.logs.pattern import (
    ADDRESS,
    Pattern,
    Sample,
    Server,
    pattern,
    reason,
    tags,
)

_DOVECOT_SAMPLES: Final = (
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

_OWN_LOG_SAMPLES: Final = (
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

# The tag is the login process itself in a log of Dovecot's own. Where it is dovecot or another
# instance_name, the message names the process: dovecot-managesieve-login does not count for itself.
_ITSELF = r"(?:Info:[ ])?"
_NAMED = rf"{_ITSELF}(?P<service>imap|pop3)-login(?:\[[0-9]{{1,10}}\])?:[ ](?:Info:[ ])?"
# A proxy of 2.4 says the second after the server behind it has let the user in. That of 2.3 puts
# the user's name in front of it, where it can look like more of the line.
_BEGIN = r"(?=Log(?!in[ ]aborted)|Started[ ]proxying)"
# The name that stands in front of the fields has none of the bytes that make up fields, and comes
# once more as the user: no other name can spell that to the end of the line.
_PROXY = (
    r"\((?P<user>[^()<>,*:=]{1,255}+)\):[ ]started[ ]proxying[ ]to[ ]"
    r"\[?[A-Za-z0-9._:-]{1,255}?\]?:[0-9]{1,5}(?:[ ]\([0-9.]{1,12}[ ]secs\))?:[ ]user=<(?P=user)>"
)
_SUCCESS = (
    r"(?:(?:Login|Logged[ ]in)(?::|,|[ ]-)?"
    r"|Started[ ]proxying[ ]to[ ]remote[ ]host(?:[ ]\([0-9.]{1,12}[ ]secs\))?:)[ ][(\[]?"
    # A field, not "aborted".
    r"(?=[a-z_]{2,20}=|TLS,|secured,)"
)
# login_log_format_elements: joined with ", ", empty ones left out. A name is closed by the one >
# that it holds; * separates a master user (auth_master_user_separator).
# Some write a blank between the first two.
_USER = (
    r"user=(?:<(?P<user>[^<>*]++)>|(?P<bare>[^<>*,= ]++))"
    r"(?:[ ]method=(?!(?i:anonymous))[A-Za-z0-9_-]{2,20}+(?=,))?"
)
_OTHER = (
    r"(?!rip=|user=|method=(?i:anonymous)|master(?:_user)?=<?[^<>,])"
    # Text behind the address is somebody else's.
    r"(?!lip=(?![<\[]?[0-9A-Fa-f:.]{0,45}+[>\])]?(?:,|\)|\]|\Z)))"
    # A lone > closes the name of a user that looks like fields.
    r"[^,<>]*+(?>(?:<[^,<>]*+>)?)"
)
_BEFORE = rf"(?:{_OTHER},[ ])*?"
_AFTER = rf"(?:,[ ]{_OTHER})"
# A comma or a bracket has to follow, or the line may be cut in the middle of the address.
_RIP = rf"rip=[<\[]?{ADDRESS}(?:[>\])]|(?=,[ ]))"
_END = (
    rf"(?:,[ ](?!session=<){_OTHER})*"
    rf"(?:,[ ]session=<(?P<session>[^<>,]{{1,64}}+)>{_AFTER}*)?[)\]]?\Z"
)
# A line with two of one of these has a user whose name looks like fields.
_ONCE = (" rip=", " method=", " lip=", " session=")

# mail_log_prefix of 2.3 and newer; older ones do not name the session.
_LOGOUT = pattern(
    "logout",
    r"(?P<service>imap|pop3|imap-hibernate)\(",
    # A name may hold brackets. Whatever it says, only the session of its line ends.
    r"(?P<user>.{1,2000}?)\)<[0-9]{1,10}><(?P<session>[^<>]{1,64}+)>:[ ]"
    r"(?:Info:[ ])?(?:Disconnected|Logged[ ]out|Connection[ ]closed|Server[ ]shutting[ ]down)",
)
_FAILURE = pattern(
    "failure",
    r"(?:(?P<service>imap|pop3)-login(?:\[[0-9]{1,10}\])?:[ ])?(?:Info:[ ])?"
    r"(?:Aborted[ ]login|Login[ ]aborted|Disconnected|Maximum[ ]number[ ]of[ ]connections"
    r"|Internal[ ]login[ ]failure|Auth[ ]process[ ]broken)",
    r"\b",
)


def _with_user(process: str) -> tuple[Pattern, ...]:
    """Return the patterns of logins with a user for messages that begin with *process*."""
    head = process + _BEGIN
    return (
        pattern("login", head, rf"{_SUCCESS}{_BEFORE}{_USER}{_AFTER}*?,[ ]{_RIP}{_END}", *_ONCE),
        pattern("login", head, rf"{_SUCCESS}{_BEFORE}{_RIP}{_AFTER}*?,[ ]{_USER}{_END}", *_ONCE),
    )


def _patterns(process: str) -> tuple[Pattern, ...]:
    """Return the patterns for messages that begin with *process*."""
    head = process + _BEGIN
    return (
        _LOGOUT,
        *_with_user(process),
        pattern("login", head, rf"{_SUCCESS}{_BEFORE}{_RIP}{_END}", *_ONCE),
        # 0.99
        pattern(
            "login",
            head,
            rf"Login:[ ](?P<user>[^\s\[\]<>*]++)[ ]\[{ADDRESS}\]"
            r"(?:,[ ](?:TLS|secured))?\Z",
        ),
        pattern("login", f"{process}proxy", rf"{_PROXY}{_AFTER}*?,[ ]{_RIP}{_END}", *_ONCE),
        _FAILURE,
    )


_PROCESS = rf"(?:{_NAMED}|{_ITSELF})"
_ANY_LOGIN = rf"{_PROCESS}{_SUCCESS}"
_REASONS = (
    reason(r"(?:managesieve|submission|lmtp|imap-urlauth|sieve)\b", "no POP or IMAP login"),
    reason(rf"{_ANY_LOGIN}.*[ ]rip=.*[ ]rip=", "rip= stands in it twice: ambiguous"),
    reason(rf"{_ANY_LOGIN}.*method=(?i:anonymous)", "an anonymous login"),
    reason(rf"{_ANY_LOGIN}(?:user=<[^>]*\*|.*master(?:_user)?=)", "a master user's login"),
    reason(rf"{_ANY_LOGIN}user=<>", "a login without a user"),
    reason(rf"{_ANY_LOGIN}user=<[^>]*[<>][^,]", "a user's name that looks like fields: ambiguous"),
    reason(rf"{_ANY_LOGIN}.*rip=[0-9A-Fa-f:.]*\Z", "ends with the address: the line may be cut"),
    reason(_ANY_LOGIN, "a login without one well-formed rip="),
    # Cut short, a failure whose user's name holds the word would look the same.
    reason(rf"{_PROCESS}(?:user|rip|method)=", "what happened does not stand before the fields"),
    reason(rf"{_PROCESS}proxy\(", "a proxy's line that is no login, or whose names differ"),
    reason(r"(?:imap|pop3)\(", "a session whose log line does not name its address"),
)

# A log of Dovecot's own behind a container's or a supervisor's stamp, or in a message of syslog:
# its time stands once more in front of the process.
_OWN_TIME = rf"{STAMP.decode('ascii')}[ ]{{1,2}}"
_OWN_PROCESS = r"(?P<service>imap|pop3)-login(?:\[[0-9]{1,10}\])?:[ ](?:Info:[ ])"
# docker compose; containerd's own form (F: a whole line); 1.x writes the severity first.
_CARRIED = (
    rf"(?:[A-Za-z0-9][A-Za-z0-9_.-]{{0,62}}[ ]{{1,30}}\|[ ]"
    rf"(?P<stamp>{STAMP.decode('ascii')})[ ]{{1,2}}"
    rf"|std(?:out|err)[ ]F[ ](?:{_OWN_TIME})?|{_OWN_TIME})"
)
_OWN_1X = rf"(?:{_OWN_TIME})?Info:[ ](?P<service>imap|pop3)-login(?:\[[0-9]{{1,10}}\])?:[ ]"

DOVECOT: Final = Server(
    "dovecot",
    tags(r"dovecot[A-Za-z0-9_.-]{0,40}"),
    (*_patterns(_NAMED), *_with_user(f"{_OWN_TIME}{_OWN_PROCESS}")),
    _DOVECOT_SAMPLES,
    _REASONS,
    "client_get_log_str() in src/login-common/client-common.c; mail_log_prefix",
)
DOVECOT_LOGIN: Final = Server(
    "dovecot", tags("imap-login", "pop3-login"), _patterns(_ITSELF), (), _REASONS
)
# The mail process in a log of Dovecot's own: imap(user)<pid><session>: is no tag.
DOVECOT_OWN_LOG: Final = Server(
    "dovecot",
    None,
    (_LOGOUT, *_with_user(f"{_CARRIED}{_OWN_PROCESS}"), *_with_user(_OWN_1X)),
    _OWN_LOG_SAMPLES,
)
