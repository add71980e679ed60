r"""Whether an outsider can have written whole lines of a log file.

Some programs log what a client sent as it came. An IMAP literal or a SASL name may hold a line
feed, and where the syslog daemon writes it into the file, the client has begun a line of its own:

    Nov 27 00:41:28 mx imap4d[77]: Login failed: user=x
    Nov 27 00:41:28 mx dovecot: imap-login: Login: user=<bob>, method=PLAIN, rip=192.0.2.66, ...

Nothing in the second line tells it from a real one, and neither need anything in a third. But the
daemon itself has written how the first one begins. So what counts is the company: no login of a
file counts in which such a program was seen, unless the daemon is known to keep a message on one
line. rsyslog does by default ("#012"), so do busybox, inetutils and the journal.
"""

import glob
import os
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from popbsmtp_wrap.logs.header import read_header

# GNU mailutils and perdition were seen to do it; saslauthd does by its source (lib of Cyrus SASL,
# saslauthd/saslauthd-main.c: "auth failure: [user=%s]").
_RAW_TAG: Final = re.compile(rb"(?:.*/)?(?:imap4d|perdition(?:\.[a-z0-9]+)?|saslauthd)")
_RAW_LINE: Final = re.compile(rb"^[^\n]{0,400}?(?:imap4d|perdition|saslauthd)[^\n]*", re.MULTILINE)
_RAW_WORDS: Final = (b"imap4d", b"perdition", b"saslauthd")
_JOURNAL: Final = "or have popbsmtp watch read the journal (watch.journal), which nobody can forge"
_SYSLOG_NG_FIX: Final = (
    "add to each log path of syslog-ng.conf that ends in this file: rewrite(r_one_line);"
    r' with: rewrite r_one_line { subst("[\\x00-\\x1f]", " ", value("MESSAGE"), type("pcre"),'
    ' flags("global")); };'
)
_RSYSLOG_FIX: Final = "switch EscapeControlCharactersOnReceive on again in rsyslog.conf"
_UNKNOWN_FIX: Final = (
    "no syslog daemon runs here: see to it that the one that writes this file replaces line feeds,"
    ' then set forgeable = "record" in [watch]'
)
_LONGEST_CONFIGURATION: Final = 1 << 20


class Daemon(NamedTuple):
    """A syslog daemon of this machine, and whether it writes a message's line feeds into files.

    *keeps* is None where its configuration cannot be read; *fix* is what to change then.
    """

    name: str
    keeps: bool | None
    fix: str


def raw_program(lines: Sequence[bytes]) -> str:
    """Return the first program of *lines*, without their ends, that logs clients' bytes raw.

    "" when no such program wrote one. Only the tag of a line's header counts: its text may name
    anything.
    """
    block = b"\n".join(lines)
    if not any(word in block for word in _RAW_WORDS):
        return ""
    for line in _RAW_LINE.findall(block):
        header = read_header(line)
        if header and _RAW_TAG.fullmatch(header.tag):
            return header.tag.decode("ascii")
    return ""


def syslog_daemons(root: str = "/") -> list[Daemon]:
    """Return the syslog daemons that run on this machine; *root* has its etc, proc and run."""
    names = _running(root)
    found = []
    if "syslog-ng" in names:
        text = _configuration(root, "etc/syslog-ng/syslog-ng.conf", "etc/syslog-ng/conf.d/*.conf")
        keeps = None if text is None else not _SYSLOG_NG_JOINS.search(text)
        found.append(Daemon("syslog-ng", keeps, _SYSLOG_NG_FIX))
    if "rsyslogd" in names:
        text = _configuration(root, "etc/rsyslog.conf", "etc/rsyslog.d/*.conf")
        keeps = None if text is None else bool(_RSYSLOG_KEEPS.search(text))
        found.append(Daemon("rsyslog", keeps, _RSYSLOG_FIX))
    if "syslogd" in names:
        found.append(Daemon("syslogd", keeps=False, fix=""))
    return found


def advice(daemons: Iterable[Daemon]) -> str:
    """Return what makes the files safe, "" if *daemons* keep each message on one line already."""
    fixes = [_UNKNOWN_FIX]
    if found := list(daemons):
        fixes = [daemon.fix for daemon in found if daemon.keeps is not False]
    return f"{', and '.join(fixes)}; {_JOURNAL}" if fixes else ""


# The flag is that of a source; a subst() of the message has to reach control characters.
_SYSLOG_NG_JOINS: Final = re.compile(
    r"no-multi-line|subst\s*\([^;]*(?:\\x00|\\x0a|\\n|\[:cntrl:\])[^;]*\bMESSAGE\b"
)
_RSYSLOG_KEEPS: Final = re.compile(
    r"^\s*\$EscapeControlCharactersOnReceive\s+off\b"
    r'|parser\.escapeControlCharactersOnReceive\s*=\s*"off"',
    re.IGNORECASE | re.MULTILINE,
)


def _running(root: str) -> set[str]:
    """Return the names of the processes that can be seen, by their own or by their PID file."""
    names = set()
    for path in glob.glob(os.path.join(glob.escape(root), "proc/[0-9]*/comm")):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                names.add(file.read(64).strip())
        except OSError:
            continue
    # /proc may show our own processes alone.
    for name in ("syslog-ng", "rsyslogd", "syslogd"):
        if os.path.exists(os.path.join(root, f"run/{name}.pid")):
            names.add(name)
    return names


def _configuration(root: str, *places: str) -> str | None:
    """Return the files that *places* name, without comments, None if one cannot be read."""
    paths = [p for place in places for p in sorted(glob.glob(os.path.join(root, place)))]
    lines: list[str] = []
    try:
        for path in paths:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(_LONGEST_CONFIGURATION)
            lines += [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    except OSError:
        return None
    return "\n".join(lines) if paths else None
