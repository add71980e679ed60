"""How fast a mixed mail log is read, and how much faster than pop-before-smtp reads it.

One million lines, a tenth of them logins. With PBS=DIRECTORY, a checkout of pop-before-smtp, its
Perl daemon reads the same log with its one Dovecot pattern, --nowrite --reprocess; it needs
libnet-netmask-perl and libtimedate-perl. It waits 5 s at the end of a log, which are taken off.
Then: the memory that a log and one of ten times its length take, and the CPU time of a watcher in a
minute in which nothing is logged.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from bench.databases import Servers
from bench.figures import interleaved, median, print_table

LINES = 1_000_000
ROUNDS = 3
IDLE_S = 60
_SILENCE_S = 5  # alarm(5) in pop-before-smtp
_TICKS = os.sysconf("SC_CLK_TCK")
_PATTERN = r"""
$logtime_pat = '(\w\w\w +\d+ \d+:\d+:\d+)';
$pat = '^[LOGTIME] \S+ (?:dovecot: )?(?:imap|pop3)-login: ' .
    'Login: .*? (?:\[|rip=)[:f]*(\d+\.\d+\.\d+\.\d+)[],]';
$| = 1;
$mynet_func = sub { '127.0.0.0/8' };
1;
"""
_DOVECOT_LOGIN = (
    "dovecot: imap-login: Login: user=<{user}@example.org>, method=PLAIN, rip={address}, "
    "lip=192.0.2.1, mpid={pid}, TLS, session=<{id}>"
)
_OTHERS = (
    "postfix/smtpd[{pid}]: connect from mail.example.net[{address}]",
    "postfix/smtpd[{pid}]: {id}: client=mail.example.net[{address}]",
    "postfix/cleanup[{pid}]: {id}: message-id=<{id}.20261121@mail.example.net>",
    "postfix/qmgr[{pid}]: {id}: from=<alice@example.net>, size=48213, nrcpt=1 (queue active)",
    (
        "postfix/lmtp[{pid}]: {id}: to=<bob@example.org>, relay=mx[private/dovecot-lmtp], "
        "delay=0.3, delays=0.2/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 <bob> {id} Saved)"
    ),
    "postfix/qmgr[{pid}]: {id}: removed",
    "postfix/smtpd[{pid}]: disconnect from mail.example.net[{address}] ehlo=1 mail=1 rcpt=1 quit=1",
    "dovecot: imap(bob)<{pid}><{id}>: Disconnected: Logged out in=93 out=956 deleted=0",
    (
        "dovecot: imap-login: Disconnected: Connection closed (auth failed, 1 attempts in 2 secs):"
        " user=<info>, method=PLAIN, rip={address}, lip=192.0.2.1, session=<{id}>"
    ),
    "dovecot: lmtp({pid}): Connect from local",
)
_LOGINS_OF_ALL = (
    _DOVECOT_LOGIN,
    _DOVECOT_LOGIN.replace("imap", "pop3"),
    _DOVECOT_LOGIN.replace("Login:", "Logged in:"),
    "imapd: LOGIN, user={user}, ip=[::ffff:{address}], port=[5555], protocol=IMAP",
    "cyrus/imap[{pid}]: login: x.example.net [{address}] {user} plaintext+TLS User logged in",
)
_OTHERS_OF_ALL = (
    *_OTHERS,
    (
        "dovecot: imap-login: Aborted login (auth failed, 3 attempts in 14 secs): "
        "user=<{user}>, method=PLAIN, rip={address}, lip=192.0.2.1, TLS, session=<{id}>"
    ),
    "dovecot: auth: passwd-file({user},{address},<{id}>): Password mismatch",
    "dovecot: imap({user}): Disconnected: Logged out in=93 out=956",
    (
        "postfix/smtpd[{pid}]: NOQUEUE: reject: RCPT from pop.example.net[{address}]: 554 5.7.1 "
        "<x@example.net>: Relay access denied; from=<s@example.net> to=<x@example.net> proto=ESMTP"
    ),
    "imapd: Connection, ip=[::ffff:{address}]",
    "imapd: LOGIN FAILED, user={user}, ip=[::ffff:{address}]",
    "imapd: LOGOUT, user={user}, ip=[::ffff:{address}], headers=0, body=0, rcvd=50, sent=400",
    "cyrus/imap[{pid}]: badlogin: x.example.net [{address}] plaintext {user} SASL(-13): failure",
    "cyrus/imap[{pid}]: open: user {user} opened INBOX",
    "spamd[{pid}]: spamd: result: . 0 - BAYES_50 scantime=0.4,size=4231,user={user},uid=1000",
)
# Logins, and the other lines.
LOGS = {
    "Dovecot and Postfix": ((_DOVECOT_LOGIN,), _OTHERS),
    "Dovecot, Courier, Cyrus, Postfix": (_LOGINS_OF_ALL, _OTHERS_OF_ALL),
}


class Cost(NamedTuple):
    """Seconds until the end, and those of CPU."""

    wall: float
    cpu: float


def lines(logins: tuple[str, ...], others: tuple[str, ...], count: int = LINES) -> Iterator[str]:
    """Yield a mixed mail log of documentation addresses; every tenth line is a login."""
    dice = random.Random(4)
    started = time.time() - 6 * 3600
    for number in range(count):
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(started + number / 50))
        fields = {
            "address": f"{dice.choice(('198.51.100', '203.0.113'))}.{dice.randrange(1, 255)}",
            "user": f"user{dice.randrange(5000)}",
            "pid": 1000 + number % 30000,
            "id": f"{number * 7:012X}",
        }
        text = dice.choice(others if number % 10 else logins)
        yield f"{stamp} mx {text.format(**fields)}\n"


def command(conf: Path, *arguments: str) -> list[str]:
    """Return the words of a popbsmtp command."""
    program = Path(sys.executable).with_name("popbsmtp")
    return [str(program), "-c", str(conf), *arguments]


def cost(words: list[str]) -> Cost:
    """Return what a command costs. Raise RuntimeError when it fails."""
    with open(os.devnull, "wb") as null:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=null)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}: {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime)


def perl_cost(words: list[str]) -> Cost:
    """Return what pop-before-smtp costs until it says that it is at the end, less its silence."""
    started = time.perf_counter()
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not any("reached end" in line for line in process.stdout):
                raise RuntimeError("pop-before-smtp stopped before the end")
            wall = time.perf_counter() - started - _SILENCE_S
            return Cost(wall, cpu_s(process.pid))
        finally:
            process.kill()


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a running process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def perl_words(folder: Path, *arguments: str) -> list[str]:
    """Return the words of a pop-before-smtp command, none without PBS."""
    checkout = os.environ.get("PBS")
    if not checkout:
        return []
    # Without -T, which does not let it open a log that the command line names.
    program, conf = folder / "pop-before-smtp", folder / "conf.pl"
    source = Path(checkout, "pop-before-smtp").read_text("utf-8")
    program.write_text("#!/usr/bin/perl -w\n" + source.partition("\n")[2], "utf-8")
    conf.write_text(_PATTERN, "ascii")
    fixed = ["/usr/bin/perl", str(program), f"--config={conf}", "--nowrite", "--logto=-"]
    return [*fixed, *arguments]


def most_memory_mb(words: list[str]) -> float:
    """Return the most memory that a command had (VmHWM, proc(5)), looked at each 5 ms.

    ru_maxrss of wait4(2) is at least that of whoever started it.
    """
    most = 0
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    most = int(line.split()[1])
            time.sleep(0.005)
    return most / 1024


def idle_cpu_s(words: list[str]) -> float:
    """Return the CPU seconds that a watcher takes in IDLE_S, after a start of some seconds."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            time.sleep(10)
            before = cpu_s(process.pid)
            time.sleep(IDLE_S)
            return cpu_s(process.pid) - before
        finally:
            process.kill()


def speed(folder: Path, conf: Path, log: Path, name: str) -> None:
    """Print lines per second, and the ratio where there is a checkout."""
    replay = command(conf, "watch", "--nowrite", "--reprocess", str(log))
    match = command(conf, "match", "--json", str(log))
    perl = perl_words(folder, "--reprocess", f"--watchlog={log}")
    variants: dict[str, Callable[[], Cost]] = {
        "popbsmtp watch --nowrite --reprocess": lambda: cost(replay),
        "popbsmtp match --json": lambda: cost(match),
    }
    if perl:
        variants["pop-before-smtp --nowrite --reprocess"] = lambda: perl_cost(perl)
    results = interleaved(variants, ROUNDS)
    wall = {name: median(one.wall for one in costs) for name, costs in results.items()}
    cpu = {name: median(one.cpu for one in costs) for name, costs in results.items()}
    *ours, peer = variants if perl else (*variants, "")
    rows = [
        (
            by,
            wall[peer] / wall[by] if perl else "-",
            cpu[peer] / cpu[by] if perl else "-",
            f"{LINES / wall[by]:,.0f} lines/s, {wall[by]:.2f} s, CPU {cpu[by]:.2f} s",
        )
        for by in (*ours, *([peer] if perl else []))
    ]
    header = ("by", "times as fast", "by CPU time", "for the record")
    print_table(f"{LINES:,} lines of {name}", header, rows)


def memory(conf: Path, log: Path, short: Path) -> None:
    """Print the most memory that the long log takes, and one of a tenth of it."""
    rows = []
    for words in (("watch", "--nowrite", "--reprocess"), ("match", "--json")):
        little = most_memory_mb(command(conf, *words, str(short)))
        much = most_memory_mb(command(conf, *words, str(log)))
        remark = f"{little:.1f} MB, {much:.1f} MB"
        rows.append((f"popbsmtp {' '.join(words)}", much / little, remark))
    title = f"Memory for {LINES // 10:,} and for {LINES:,} lines"
    print_table(title, ("by", "times as much", "for the record"), rows)


def idle(folder: Path, conf: Path, log: Path) -> None:
    """Print the CPU time of watchers of a log that does not grow."""
    watchers = {"popbsmtp watch --nowrite": command(conf, "watch", "--nowrite", str(log))}
    if perl := perl_words(folder, f"--watchlog={log}"):
        watchers["pop-before-smtp --nowrite"] = perl
    rows = []
    for name, words in watchers.items():
        seconds = idle_cpu_s(words)
        rows.append((name, f"{seconds:.2f} s", f"{100 * seconds / IDLE_S:.2f} %"))
    print_table(f"{IDLE_S} s without a line", ("by", "CPU time", "of one core"), rows)


def main(_: Servers) -> None:
    """Print speed, memory and idle time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log, short, conf = folder / "mail.log", folder / "short.log", folder / "popbsmtp.toml"
        conf.write_text(
            f'[database]\nurl = "sqlite:///{folder}/popbsmtp.db"\n'
            "[ignore]\npostfix_mynetworks = false\n"
        )
        for title, (logins, others) in LOGS.items():
            with open(log, "w", encoding="ascii") as file:
                file.writelines(lines(logins, others))
            speed(folder, conf, log, title)
        with open(short, "w", encoding="ascii") as file:
            file.writelines(lines(*LOGS["Dovecot, Courier, Cyrus, Postfix"], LINES // 10))
        memory(conf, log, short)
        idle(folder, conf, short)
