"""Dovecot 0.99 to 2.4."""

from typing import Final

from popbsmtp_wrap.logs.header import STAMP
from popbsmtp_wrap.logs.pattern import ADDRESS, Pattern, Server, pattern, reason, tags
from popbsmtp_wrap.logs.servers.dovecot_samples import IN_LOGS_OF_ITS_OWN, IN_SYSLOG

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
    r"\((?P<user>[^()<>,*:=]{1,255}+)(?:,[A-Za-z0-9._:\[\]-]{1,260})?\):[ ]"
    r"[Ss]tarted[ ]proxying[ ]to[ ]"
    r"[<\[]?[A-Za-z0-9._:-]{1,255}?[\]>]?(?::[0-9]{1,5})?(?:[ ]\([0-9.]{1,12}[ ]secs\))?:[ ]"
    r"user=<(?P=user)>"
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
    IN_SYSLOG,
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
    IN_LOGS_OF_ITS_OWN,
)
