"""What happens to the recorder and at its sockets."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tests.chaos import clients
from tests.chaos.fault import Fault, fault
from tests.chaos.site import BIN, SETTINGS
from tests.harness.process import ENVIRONMENT
from tests.servers.wrap_fixtures import recording_processes

_READY_S: Final = 60.0


def together(calls: list[Callable[[], object]]) -> list[threading.Thread]:
    """Return threads that run *calls*, started."""
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


@fault("kill_recorder", 2)
class KillRecorder(Fault):
    def apply(self) -> None:
        self.site.manager.kill()

    def undo(self) -> None:
        self.site.manager.wait_ready(_READY_S)


@fault("term_recorder")
class TermRecorder(Fault):
    def apply(self) -> None:
        self.site.manager.send(signal.SIGTERM)

    def undo(self) -> None:
        self.site.manager.wait_ready(_READY_S)


@fault("stop_recorder", 2)
class StopRecorder(Fault):
    def apply(self) -> None:
        self.site.manager.pause()

    def undo(self) -> None:
        self.site.manager.resume()


@fault("no_recorder", 2)
class NoRecorder(Fault):
    """Nothing restarts it: wrappers start another one."""

    def apply(self) -> None:
        self.site.manager.hold()

    def undo(self) -> None:
        self.site.manager.release()
        self.site.manager.wait_ready(_READY_S)


@fault("kill_lingering", 2)
class KillLingering(Fault):
    """The recorders that logins start are killed, again and again, under those logins."""

    def apply(self) -> None:
        site = self.site
        site.manager.hold()
        for _ in range(3):
            threads = together(
                [
                    partial(clients.wrapper, site, site.fresh_address(), site.user("linger"))
                    for _ in range(4)
                ]
            )
            time.sleep(self.rng.uniform(0.1, 1.0))
            for pid in recording_processes(site.config):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for thread in threads:
                thread.join()

    def undo(self) -> None:
        self.site.manager.release()
        self.site.manager.wait_ready(_READY_S)


@fault("stop_lingering")
class StopLingering(Fault):
    """The recorder that a login has started is stopped with requests in its queue, and a revoke."""

    def apply(self) -> None:
        site = self.site
        site.manager.hold()
        clients.wrapper(site, site.fresh_address(), site.user("linger"))
        self._stopped = recording_processes(site.config)
        for pid in self._stopped:
            os.kill(pid, signal.SIGSTOP)
        address = site.fresh_address()
        for wait in ("0", "", "0.3"):
            clients.wrapper(site, address, site.user("linger"), wait=wait)
        site.revoke(address)
        clients.wrapper(site, site.fresh_address(), site.user("linger"))

    def undo(self) -> None:
        for pid in self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.site.manager.release()
        self.site.manager.wait_ready(_READY_S)


@fault("late_request", 2)
class LateRequest(Fault):
    """Requests that the recorder reads long after their clients have gone, and a revoke between."""

    def apply(self) -> None:
        site = self.site
        site.manager.pause()
        began = time.monotonic()
        addresses = [site.fresh_address() for _ in range(6)]
        for address in addresses[:2]:
            clients.hang_up(site, address, site.user("late"))
        for address in addresses[2:4]:
            clients.hang_up(site, address, site.user("late"), site.postlogin)
        calls = [
            lambda a=address: clients.wrapper(site, a, site.user("late"), wait="0.4")
            for address in addresses[4:]
        ]
        together([*calls, lambda: site.revoke(addresses[0], addresses[2])])
        # Long enough to tell the time of the request from that of its reading.
        time.sleep(max(0.0, 5.0 + site.lag.worst() - (time.monotonic() - began)))

    def undo(self) -> None:
        self.site.manager.resume()
        self.site.manager.wait_ready(_READY_S)


@fault("answer_raises")
class AnswerRaises(Fault):
    """A bug in the way of an answer: it may cost that client its answer, and nobody else."""

    def apply(self) -> None:
        manager = self.site.manager
        # All at once, so that they are more than the recorder commits without its loop.
        manager.pause()
        (waiting,) = together([lambda: clients.burst(self.site, 12, 5.0)])
        time.sleep(0.5 + self.site.lag.worst() / 4)
        manager.send(signal.SIGUSR1)
        manager.resume()
        waiting.join()

    def undo(self) -> None:
        if not self.alone:
            return  # another fault may have it away
        site, began = self.site, time.time()
        while "unknown" in (said := clients.burst(site, 12, 5.0)):
            waited_s = time.time() - began
            if waited_s > 20 + site.lag.between(began, time.time()):
                site.trouble(
                    f"expected 12 logins at once to be answered after an answer that failed,"
                    f" found {said.count('unknown')} without an answer for {waited_s:.0f} s"
                )
                site.manager.kill()
                return


@fault("reload", 2)
class Reload(Fault):
    """SIGHUP with other settings."""

    def apply(self) -> None:
        self.site.configure(
            refresh=self.rng.choice(("0s", "2s", "6s")),
            wait=self.rng.choice(("1.5s", "3s")),
            spool_size=self.rng.choice(("2M", "6M")),
            linger=self.rng.choice(("0", "1s")),
        )
        self.site.manager.send(signal.SIGHUP)

    def undo(self) -> None:
        self.site.configure(**SETTINGS)
        self.site.manager.send(signal.SIGHUP)


@fault("reload_grace")
class ReloadGrace(Fault):
    """SIGHUP from a short grace to a long one: what waits in the spool counts by the long one."""

    def apply(self) -> None:
        site, short_s = self.site, 12
        site.drained(20)
        began, was_empty = time.time(), site.spooled() == 0
        site.configure(grace=f"{short_s}s", refresh="2s")
        site.manager.send(signal.SIGTERM)
        site.manager.wait_ready(_READY_S)
        site.configure(**SETTINGS)
        reloads = site.log.read_text().count("event=reloaded")
        site.manager.send(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while site.log.read_text().count("event=reloaded") == reloads:
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if not was_empty or time.time() - began > short_s / 2:
            site.short_grace(began, short_s)
        site.database.kill_or_hold()
        for _ in range(5):
            clients.line(site, site.fresh_address(), site.user("grace"))
        time.sleep(short_s + 3)

    def undo(self) -> None:
        self.site.database.start_or_release()


@fault("flush_beside")
class FlushBeside(Fault):
    """cron's `popbsmtp flush`, with and without a recorder."""

    def apply(self) -> None:
        together([lambda: self.site.toolkit("flush")] * 2)


@fault("flush_holds_lock")
class FlushHoldsLock(Fault):
    """A flush that waits for a locked table while the recorder starts."""

    _session: Any = None
    _flush: "subprocess.Popen[bytes] | None" = None

    def apply(self) -> None:
        site = self.site
        site.manager.hold()
        with contextlib.suppress(Exception):  # a second fault may have the database down
            self._session = site.database.session()
            site.database.lock_table(self._session)
        for _ in range(3):
            clients.wrapper(site, site.fresh_address(), site.user("flush"))
        words = [str(BIN / "popbsmtp"), "-c", str(site.config), "flush"]
        null = subprocess.DEVNULL
        self._flush = subprocess.Popen(words, env=ENVIRONMENT, stdout=null, stderr=null)
        deadline = time.monotonic() + 5 + site.lag.worst()
        while not site.spool_is_locked() and time.monotonic() < deadline:
            time.sleep(0.02)
        site.note(f"flush_holds_lock: the spool is locked: {site.spool_is_locked()}")
        site.manager.release()
        began = time.time()
        site.manager.wait_ready(14 + site.lag.between(began - 5, began))

    def undo(self) -> None:
        if self._session is not None:
            with contextlib.suppress(Exception):
                self._session.rollback()
            self._session.close()
        self.site.manager.release()
        if self._flush is not None:
            self._flush.wait(90)
        self.site.manager.wait_ready(_READY_S)


@fault("junk")
class Junk(Fault):
    """Peers that say nonsense, or hang up in the middle of it."""

    def apply(self) -> None:
        for _ in range(20):
            clients.junk(self.site, self.rng)


@fault("early_wrappers")
class EarlyWrappers(Fault):
    """Wrappers that hardly wait, while the recorder is stopped."""

    def apply(self) -> None:
        site = self.site
        site.manager.pause()
        for wait in ("0", "0.1", "0.1", "0.5", "0.5", "0.5"):
            address = self.rng.choice(clients.ADDRESSES)
            together([partial(clients.wrapper, site, address, site.user("early"), wait=wait)])

    def undo(self) -> None:
        self.site.manager.resume()


@fault("anonymous")
class Anonymous(Fault):
    """Guests: their mailbox opens, the relay does not."""

    def apply(self) -> None:
        site = self.site
        for _ in range(2):
            address = site.fresh_address("2001:db8:2::")
            more = "auth_mech=ANONYMOUS\thome=/h"
            clients.postlogin(site, address, site.user("anonymous"), more, counts=False)
