"""Who logs in, and by which way; each call is one attempt, remembered with its outcome."""

import contextlib
import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable  # noqa: TC003 - read at run time
from pathlib import Path
from typing import Final

from popbsmtp_wrap.wire import format_request, read_clocks
from tests.chaos.model import Attempt, Outcome
from tests.chaos.site import BIN, REPLY_TIMEOUT_S, Site
from tests.harness.process import ENVIRONMENT
from tests.servers.recorder_place import dovecot_request, read_all
from tests.servers.watch_place import append, dovecot

# Beside wait and reply_timeout, what a mailbox may take on a quiet machine.
MARGIN_S: Final = 1.0
_PATIENCE_S: Final = 15.0
ADDRESSES: Final = tuple(
    # 192.0.2.1 is the server in the log lines: its own logins do not count.
    [f"{net}.{n}" for net in ("192.0.2", "198.51.100", "203.0.113") for n in range(2, 52)]
    + [f"2001:db8::{n:x}" for n in range(1, 151)]
)
# Phones log in again and again.
_OFTEN: Final = ADDRESSES[::12]


def wrapper(site: Site, address: str, user: str, *, wait: str = "", counts: bool = True) -> None:
    """Log in by popbsmtp-wrap, with a mail program that says when it began to run."""
    words = [str(BIN / "popbsmtp-wrap"), "--config", str(site.config), "--socket", str(site.socket)]
    words += ["--wait", wait] if wait else []
    wait_s = float(wait or site.settings["wait"].removesuffix("s"))
    began, booted = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    done = subprocess.run(
        [*words, "--", "/bin/cat", "/proc/uptime"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT | {"IP": address, "USER": user},
        timeout=120,
    )
    ended = time.time()
    opened = float(done.stdout.split()[0]) if done.stdout else float("inf")
    # /proc/uptime has hundredths.
    _opened(site, "wrapper", began, opened - booted + 0.01, wait_s)
    outcome: Outcome = "ok" if "not recorded" not in done.stderr else "unknown"
    if wait:
        outcome = "unknown"
    site.attempted(Attempt(address, user, "wrapper", began, ended, outcome, counts))


def line(
    site: Site, address: str, user: str, *, counts: bool = True, patience_s: float = _PATIENCE_S
) -> Outcome:
    """Log in by the wrapper's line and return what the recorder said."""
    began = time.time()
    request = format_request(address, user.encode(), b"imap", moment=read_clocks())
    answer = _ask(site.socket, request, patience_s)
    word = answer.rstrip(b"\n").partition(b"\t")[0]
    outcome: Outcome = "ok" if word == b"OK" else "no" if word == b"NO" else "unknown"
    site.attempted(Attempt(address, user, "line", began, time.time(), outcome, counts))
    return outcome


def postlogin(
    site: Site, address: str, user: str, more: str = "home=/h", *, counts: bool = True
) -> None:
    """Log in as Dovecot asks a post-login socket; its mailbox opens with the reply."""
    began, hurt = time.time(), site.spool_hurt
    request = dovecot_request(address, user, more)
    answer = _ask(site.postlogin, request, _PATIENCE_S)
    ended = time.time()
    away_s = site.manager.away_between(began - MARGIN_S, ended)
    if answer:
        _opened(site, "postlogin", began, ended - began - away_s, REPLY_TIMEOUT_S)
    elif away_s == 0:
        site.trouble(
            f"{ended:.1f} postlogin: expected a reply for {address}, found none"
            f" after {ended - began:.1f} s"
        )
    soon = bool(answer) and ended - began < 0.9 * REPLY_TIMEOUT_S and not (hurt or site.spool_hurt)
    outcome: Outcome = "ok" if soon else "unknown"
    site.attempted(Attempt(address, user, "postlogin", began, ended, outcome, counts, away_s > 0))


def log_line(site: Site, address: str, user: str) -> None:
    """Log in as the mail log says."""
    with site.log_lock:
        now = time.time()
        append(site.watch.log, dovecot(address, user))
    site.attempted(Attempt(address, user, "log", now, now, "logged"))


def hang_up(site: Site, address: str, user: str, path: Path | None = None) -> None:
    """Ask and leave at once, by either protocol."""
    began = time.time()
    path = path or site.socket
    request = format_request(address, user.encode(), b"imap")
    if path == site.postlogin:
        request = dovecot_request(address, user)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(1)
        peer.connect(str(path))
        peer.sendall(request)
    site.attempted(Attempt(address, user, "hang-up", began, time.time(), "unknown"))


def junk(site: Site, rng: random.Random) -> None:
    """Say something that is no request, or half of one."""
    pieces = (os.urandom(50), b"popbsmtp/1\t192.0.2.7", b"\n", b"x" * 5000, b"")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(1)
        peer.connect(str(rng.choice((site.socket, site.postlogin))))
        peer.sendall(rng.choice(pieces))
    site.counts["junk"] += 1


def burst(site: Site, count: int, patience_s: float = _PATIENCE_S) -> list[Outcome]:
    """Log *count* addresses in at once that nobody has used; return what each was told."""
    outcomes: list[Outcome] = []

    def one() -> None:
        address = site.fresh_address()
        outcomes.append(line(site, address, site.user("burst"), patience_s=patience_s))

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class Crowd:
    """Clients that log in until stop(); each draws what it does from the seed."""

    def __init__(self, site: Site, seed: int, size: int = 5) -> None:
        self._site = site
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._live, args=(random.Random(f"{seed} client {n}"),), daemon=True
            )
            for n in range(size)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Return when every client has been answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _live(self, rng: random.Random) -> None:
        ways: tuple[tuple[Callable[[str, str], object], int], ...] = (
            (lambda a, u: wrapper(self._site, a, u), 3),
            (lambda a, u: line(self._site, a, u), 4),
            (lambda a, u: postlogin(self._site, a, u), 4),
            (lambda a, u: log_line(self._site, a, u), 2),
            (lambda a, u: hang_up(self._site, a, u), 1),
            (lambda a, _: self._site.revoke(a), 0.4),
        )
        while not self._stop.wait(rng.uniform(0.02, 0.25)):
            address = rng.choice(_OFTEN if rng.random() < 0.4 else ADDRESSES)
            way = rng.choices([way for way, _ in ways], [weight for _, weight in ways])[0]
            try:
                way(address, self._site.user())
            except Exception as error:  # noqa: BLE001 - a broken client is a finding, too
                self._site.trouble(f"a client ended: {error!r}")


def _ask(path: Path, request: bytes, patience_s: float) -> bytes:
    """Return the answer, or b"" if none came."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(patience_s)
        peer.connect(str(path))
        peer.sendall(request)
        return read_all(peer)
    return b""


def _opened(site: Site, source: str, began: float, took_s: float, wait_s: float) -> None:
    bound_s = wait_s + MARGIN_S + site.lag.between(began, began + took_s)
    if took_s > bound_s:
        site.trouble(
            f"{began:.1f} {source}: expected the mailbox to open within {bound_s:.1f} s,"
            f" found {took_s:.1f} s"
        )
