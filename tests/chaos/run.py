"""One round: a schedule of faults under clients, the healing, the judgement, the report."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import clients, database_faults, recorder_faults  # noqa: F401 - they register
from tests.chaos.fault import FAULTS, Fault, weights
from tests.chaos.schedule import Step, plan
from tests.chaos.site import Site

# Two faults at once, so often.
_TOGETHER: Final = 0.25
# After everything is healed: the probe's longest pause, a drain, a watcher that catches up.
_HEALED_S: Final = 60.0
_LOG_LINES: Final = 60


@dataclass
class Report:
    """What a round found, and what it did to find it."""

    kind: str
    seed: int
    steps: list[Step]
    violations: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    last: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    restarts: int = 0
    lag_s: float = 0.0

    def text(self) -> str:
        """Return the report for people."""
        counts = (f"{name} {count}" for name, count in sorted(self.faults.items()))
        sources = (f"{name}: {count}" for name, count in sorted(self.sources.items()))
        did = f"{len(self.steps)} steps, {self.restarts} starts of the recorder"
        lines = [
            f"{self.kind} seed {self.seed}: {did}, lag {self.lag_s:.2f} s",
            f"  faults: {', '.join(counts)}",
            f"  clients: {', '.join(sources)}",
        ]
        if self.violations:
            lines.append(f"  {len(self.violations)} VIOLATIONS (SEED={self.seed})")
            lines += [f"    {violation}" for violation in self.violations[:20]]
            lines += ["  the last faults:", *(f"    {one}" for one in self.last)]
            lines += ["  the recorder's log:", *(f"    {one}" for one in self.log)]
        else:
            lines += [f"  {note}" for note in self.notes]
            lines.append("  no violation")
        return "\n".join(lines)


def run(kind: str, seed: int, seconds: float, names: tuple[str, ...] = ()) -> Report:
    """Return the report of one round on the database *kind*; *names* restricts the faults."""
    steps = plan(seed, seconds, weights(kind, names), _TOGETHER if not names else 0.0)
    report = Report(kind, seed, steps)
    used = sorted({name for step in steps for name in step.names})
    with Site(kind, seed, used) as site:
        crowd = clients.Crowd(site, seed)
        crowd.start()
        try:
            for step in steps:
                _take(site, step, report)
        finally:
            crowd.stop()
        report.violations = [*_heal(site), *site.troubles, *site.manager.troubles]
        report.violations += _settle(site)
        report.sources = site.counts
        report.restarts, report.lag_s = site.manager.restarts, site.lag.worst()
        report.last = [*report.last[-12:], *site.notes[-12:]]
        report.notes = site.notes
        report.log = site.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return report


def _take(site: Site, step: Step, report: Report) -> None:
    rng = random.Random(step.seed)
    alone = len(step.names) == 1
    begun: list[Fault] = []
    try:
        for name in step.names:
            one = FAULTS[name](site, random.Random(rng.random()), step.hold_s, alone=alone)
            report.last.append(f"{time.time():.1f} {name}, held {step.hold_s} s")
            report.faults[name] += 1
            begun.append(one)
            one.apply()
        time.sleep(step.hold_s)
    finally:
        for one in reversed(begun):
            one.undo()
    time.sleep(step.pause_s)


def _heal(site: Site) -> list[str]:
    """Return what does not work although nothing is broken any more."""
    site.free_database()
    site.database.start_or_release()
    site.manager.resume()
    site.manager.release()
    began = time.time()
    trouble = ""
    while True:
        said = clients.burst(site, 12, 10.0)
        status = site.status()
        if status is None:
            trouble = "the recorder does not answer"
        elif said.count("ok") < len(said):
            trouble = f"of 12 logins at once the recorder took {said.count('ok')}"
        elif site.spooled():
            trouble = f"the spool still holds {site.spooled()} bytes"
        else:
            return []
        waited_s = time.time() - began
        lag_s = site.lag.between(began, time.time())
        if waited_s > _HEALED_S + min(lag_s, _HEALED_S):
            state = status and status["database"]
            return [f"{waited_s:.0f} s after everything was healed {trouble}; database: {state}"]
        time.sleep(1)


def _settle(site: Site) -> list[str]:
    """Return what the table holds against the model when nothing changes any more."""
    deadline = time.monotonic() + 20
    while (found := site.judged()) and time.monotonic() < deadline:
        time.sleep(1)
    return found
