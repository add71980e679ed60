"""Dovecot 0.99 to 2.4."""

from typing import Final

from popbsmtp_wrap.sources.logs.pattern import ADDRESS, Server, pattern, reason, tags

# The tag is dovecot (instance_name), or the login process itself in a log of Dovecot's own.
_PROCESS = r"(?:(?P<service>imap|pop3)-login(?:\[[0-9]{1,10}\])?:[ ])?(?:Info:[ ])?"
# A proxy says the second after the server behind it has let the user in.
_SUCCESS = (
    r"(?:(?:Login|Logged[ ]in)(?::|,|[ ]-)?"
    r"|(?:proxy\([^()]{1,255}+\):[ ]started[ ]proxying[ ]to[ ][^ ]{1,255}"
    r"|Started[ ]proxying[ ]to[ ]remote[ ]host)(?:[ ]\([0-9.]{1,12}[ ]secs\))?:)[ ][(\[]?"
    # A field, not "aborted".
    r"(?=[a-z_]{2,20}=|TLS,|secured,)"
)
# login_log_format_elements: joined with ", ", empty ones left out. A name is closed by the one >
# that it holds; * separates a master user (auth_master_user_separator).
_USER = r"user=(?:<(?P<user>[^<>*]++)>|(?P<bare>[^<>*,= ]++))"
_OTHER = r"(?!rip=|user=|method=(?i:anonymous)|master(?:_user)?=<?[^<>,])[^,]*+"
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

_PATTERNS = (
    pattern("login", rf"{_PROCESS}{_SUCCESS}{_BEFORE}{_USER}{_AFTER}*?,[ ]{_RIP}{_END}", *_ONCE),
    pattern("login", rf"{_PROCESS}{_SUCCESS}{_BEFORE}{_RIP}{_AFTER}*?,[ ]{_USER}{_END}", *_ONCE),
    pattern("login", rf"{_PROCESS}{_SUCCESS}{_BEFORE}{_RIP}{_END}", *_ONCE),
    # With a login_log_format that has the word at the end.
    pattern(
        "login",
        rf"{_PROCESS}{_USER}{_AFTER}*?,[ ]{_RIP}(?:,[ ]{_OTHER})*?:[ ](?:Login|Logged[ ]in)\Z",
        *_ONCE,
    ),
    # 0.99
    pattern(
        "login",
        rf"{_PROCESS}Login:[ ](?P<user>[^\s\[\]<>*]++)[ ]\[{ADDRESS}\](?:,[ ](?:TLS|secured))?\Z",
    ),
    # mail_log_prefix of 2.3 and newer; older ones do not name the session.
    pattern(
        "logout",
        r"(?P<service>imap|pop3)\((?P<user>[^()]++)\)<[0-9]{1,10}><(?P<session>[^<>]{1,64}+)>:[ ]"
        r"(?:Info:[ ])?(?:Disconnected|Logged[ ]out|Connection[ ]closed|Server[ ]shutting[ ]down)",
    ),
    pattern(
        "failure",
        r"(?:(?P<service>imap|pop3)-login(?:\[[0-9]{1,10}\])?:[ ])?(?:Info:[ ])?"
        r"(?:Aborted[ ]login|Login[ ]aborted|Disconnected|Maximum[ ]number[ ]of[ ]connections"
        r"|Internal[ ]login[ ]failure|Auth[ ]process[ ]broken)\b",
    ),
)
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
    reason(r"(?:imap|pop3)\(", "a session whose log line does not name its address"),
)

_SAMPLES = ()
_TAG = r"dovecot[A-Za-z0-9_.-]{0,40}|(?:imap|pop3)-login"
_WORDS = (b"imap", b"pop")

DOVECOT: Final = Server(
    "dovecot",
    tags(_TAG),
    _PATTERNS,
    _SAMPLES,
    _WORDS,
    _REASONS,
    "client_get_log_str() in src/login-common/client-common.c; mail_log_prefix",
)
# The mail process in a log of Dovecot's own: imap(user)<pid><session>: is no tag.
DOVECOT_OWN_LOG: Final = Server("dovecot", None, _PATTERNS[5:6], (), _WORDS)
