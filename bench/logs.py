"""How fast match reads a mixed mail log, and how much faster than pop-before-smtp.

One million lines, a tenth of them logins. With PBS=DIRECTORY, a checkout of pop-before-smtp, its
Perl daemon reads the same log with its one Dovecot pattern, --nowrite --reprocess; it needs
libnet-netmask-perl and libtimedate-perl. It waits 5 s at the end of a log, which are taken off.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.databases import Servers
from bench.figures import interleaved, median, print_table

LINES = 1_000_000
ROUNDS = 3
_SILENCE_S = 5  # alarm(5) in pop-before-smtp
_PATTERN = r"""
$logtime_pat = '(\w\w\w +\d+ \d+:\d+:\d+)';
$pat = '^[LOGTIME] \S+ (?:dovecot: )?(?:imap|pop3)-login: ' .
    'Login: .*? (?:\[|rip=)[:f]*(\d+\.\d+\.\d+\.\d+)[],]';
$| = 1;
$mynet_func = sub { '127.0.0.0/8' };
1;
"""
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


def lines(count: int = LINES) -> Iterator[str]:
    """Yield a mixed mail log of documentation addresses; every tenth line is a login."""
    dice = random.Random(4)
    started = time.time() - 6 * 3600
    for number in range(count):
        stamp = time.strftime("%b %e %H:%M:%S", time.localtime(started + number / 50))
        address = f"{dice.choice(('198.51.100', '203.0.113'))}.{dice.randrange(1, 255)}"
        text = (
            f"dovecot: imap-login: Login: user=<user{dice.randrange(5000)}@example.org>,"
            " method=PLAIN, rip={address}, lip=192.0.2.1, mpid={pid}, TLS, session=<{id}>"
            if number % 10 == 0
            else dice.choice(_OTHERS)
        )
        fields = {"address": address, "pid": 1000 + number % 30000, "id": f"{number * 7:012X}"}
        yield f"{stamp} mx {text.format(**fields)}\n"


def match_s(log: Path) -> float:
    """Return the seconds that match takes."""
    argv = [str(Path(sys.executable).with_name("popbsmtp")), "match", "--json", str(log)]
    with open(os.devnull, "wb") as null:
        started = time.perf_counter()
        subprocess.run(argv, check=True, stdout=null)
        return time.perf_counter() - started


def perl_s(program: Path, log: Path, conf: Path) -> float:
    """Return the seconds until pop-before-smtp says that it is at the end, less its silence."""
    argv = ["/usr/bin/perl", str(program), f"--config={conf}", "--nowrite", "--reprocess"]
    argv += [f"--watchlog={log}", "--logto=-"]
    started = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if not any("reached end" in line for line in process.stdout):
                raise RuntimeError("pop-before-smtp stopped before the end")
            return time.perf_counter() - started - _SILENCE_S
        finally:
            process.kill()


def main(_: Servers) -> None:
    """Print lines per second, and the ratio where there is a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        log, conf = Path(folder, "mail.log"), Path(folder, "conf.pl")
        with open(log, "w", encoding="ascii") as file:
            file.writelines(lines())
        conf.write_text(_PATTERN, "ascii")
        variants = {"popbsmtp match, all servers": lambda: match_s(log)}
        if checkout := os.environ.get("PBS"):
            # Without -T, which does not let it open a log that the command line names.
            program = Path(folder, "pop-before-smtp")
            source = Path(checkout, "pop-before-smtp").read_text("utf-8")
            program.write_text("#!/usr/bin/perl -w\n" + source.partition("\n")[2], "utf-8")
            variants["pop-before-smtp"] = lambda: perl_s(program, log, conf)
        results = interleaved(variants, ROUNDS)
        medians = {name: median(seconds) for name, seconds in results.items()}
        peer = medians.get("pop-before-smtp")
        rows = [
            (
                name,
                peer / seconds if peer else "-",
                f"{LINES / seconds:,.0f} lines/s, {seconds:.2f} s",
            )
            for name, seconds in medians.items()
        ]
        print_table("Log", ("by", "times as fast", "for the record"), rows)
