"""What the table must hold after a run, and what it may not; pure, no I/O.

All times are Unix seconds. An attempt lies between *began*, when the client sent its request, and
*ended*, when the client was answered, hung up or went on without an answer: the login happened in
between.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

# ok: acknowledged. no: answered NO. unknown: no answer that says anything. logged: a line in a
# mail log, which nobody acknowledges and which has to be in the table in the end.
Outcome = Literal["ok", "no", "unknown", "logged"]

# last_seen and ages are whole seconds, each cut once.
ROUNDING_S: Final = 2.0
# A line of a log has whole seconds, and so have the watcher's age and the recorder's.
LINE_S: Final = 4.0
# A recording process that Python has to be started for takes its own start for the login.
YOUNGER_S: Final = 3.0
# Dovecot's request has no time: one that has waited in a queue counts from the moment when that was
# last seen empty, at most so long before it is read (docs/recorder.md). That is so for a recorder
# that has just started, which takes longer than an answer.
QUEUED_S: Final = 60.0
_PROMPT_S: Final = 0.25
# A login that needed no write, as its address had just been written, is looked for within this.
VERIFIED_S: Final = 2.0
# A row of a revoked address may stay as a marker with a time far in the past.
TOMBSTONE_S: Final = 10 * 365 * 86400.0


@dataclass(frozen=True)
class Attempt:
    """One try to log in.

    *counts* is False for one that must never open the relay, *queued* True where a recorder that
    was just starting may have found the request in its queue.
    """

    address: str
    user: str
    source: str
    began: float
    ended: float
    outcome: Outcome
    counts: bool = True
    queued: bool = False


@dataclass(frozen=True)
class Revocation:
    """One `popbsmtp revoke`; *done* says whether it claimed success."""

    addresses: frozenset[str]
    began: float
    ended: float
    done: bool


@dataclass(frozen=True)
class Window:
    """A stretch of time in which something was so."""

    began: float
    ended: float


@dataclass(frozen=True)
class ShortGrace(Window):
    """While the configuration had this grace, older logins could be dropped from the spool."""

    grace_s: float


@dataclass
class History:
    """What clients, administrators and faults did."""

    attempts: list[Attempt] = field(default_factory=list)
    revocations: list[Revocation] = field(default_factory=list)
    # The table lost its rows: what was in it before is gone.
    losses: list[Window] = field(default_factory=list)
    # The recorder was killed at the end of each, and may have been stopped since its beginning.
    crashes: list[Window] = field(default_factory=list)
    # The database held statements back, or the recorder was stopped with one under way: their rows
    # may be younger by that (docs/recorder.md).
    stalls: list[Window] = field(default_factory=list)
    short_graces: list[ShortGrace] = field(default_factory=list)
    # The longest time for which an address was written once only.
    refresh_s: float = 0.0


@dataclass(frozen=True)
class Row:
    address: str
    last_seen: float
    user: str | None


def violations(history: History, rows: Iterable[Row], now: float, lag_s: float = 0.0) -> list[str]:
    """Return a sentence for each address whose row is missing, wrong, or may not be there.

    *lag_s* is how much later than asked for the machine ran things, at worst.
    """
    table = {row.address: row for row in rows if now - row.last_seen < TOMBSTONE_S}
    by_address: dict[str, list[Attempt]] = {}
    for attempt in history.attempts:
        by_address.setdefault(attempt.address, []).append(attempt)
    found = []
    for address in sorted(by_address.keys() | table.keys()):
        attempts = by_address.get(address, [])
        trouble = _missing(history, attempts, table.get(address), lag_s) or _forbidden(
            history, attempts, table.get(address), lag_s
        )
        if trouble:
            found.append(f"{address}: {trouble}")
    return found


def demanded(history: History, attempts: Sequence[Attempt], lag_s: float = 0.0) -> Attempt | None:
    """Return the last of *attempts* that has to be in the table, or None."""
    due = [a for a in attempts if a.counts and a.outcome in ("ok", "logged")]
    due = [a for a in due if not _may_be_gone(history, a, lag_s)]
    return max(due, key=lambda a: a.began, default=None)


def _may_be_gone(history: History, attempt: Attempt, lag_s: float) -> bool:
    return (
        any(
            attempt.address in revocation.addresses and revocation.ended >= _counts_from(attempt)
            for revocation in history.revocations
        )
        or any(loss.ended >= attempt.began for loss in history.losses)
        or _was_remembered_in_vain(history, attempt, lag_s)
        or any(
            grace.ended - attempt.began >= grace.grace_s - ROUNDING_S
            for grace in history.short_graces
        )
    )


def _was_remembered_in_vain(history: History, attempt: Attempt, lag_s: float) -> bool:
    """Tell whether the recorder took a row that was lost for written, and died before it looked."""
    # A login with an age counts as older than it is by what was rounded.
    remembered_s = history.refresh_s + ROUNDING_S
    lost = any(loss.ended + remembered_s >= attempt.began for loss in history.losses)
    return lost and any(
        crash.began - VERIFIED_S - lag_s <= attempt.ended <= crash.ended
        for crash in history.crashes
    )


def _older_s(attempt: Attempt) -> float:
    """Return by how much a row of *attempt* may be too old."""
    waited = attempt.queued or attempt.ended - attempt.began > _PROMPT_S
    return QUEUED_S if attempt.source == "postlogin" and waited else 0.0


def _counts_from(attempt: Attempt) -> float:
    """Return from when on *attempt* counts at the latest as older than a revocation.

    An age is rounded up: of a line, of its row, and of what has waited (docs/recorder.md).
    """
    waited = attempt.queued or attempt.ended - attempt.began > _PROMPT_S
    rounded_s = LINE_S if attempt.source == "log" else ROUNDING_S if waited else 0.0
    return attempt.began - max(_older_s(attempt), rounded_s)


def _missing(
    history: History, attempts: Sequence[Attempt], row: Row | None, lag_s: float
) -> str | None:
    last = demanded(history, attempts, lag_s)
    if last is None:
        return None
    # An address is written once in refresh, but anew after it was revoked.
    oldest = last.began - history.refresh_s - _older_s(last)
    for revocation in history.revocations:
        before = revocation.ended < last.began
        if revocation.done and before and last.address in revocation.addresses:
            oldest = max(oldest, revocation.began)
    if row is None:
        return f"expected {_said(last)}, found no row"
    if row.last_seen < oldest - (LINE_S if last.source == "log" else ROUNDING_S):
        return f"expected {_said(last)}, found a row older by {last.began - row.last_seen:.1f} s"
    return None


def _forbidden(
    history: History, attempts: Sequence[Attempt], row: Row | None, lag_s: float
) -> str | None:
    if row is None:
        return None
    real = [a for a in attempts if a.counts]
    if not real:
        tried = f"only {_said(attempts[-1])}" if attempts else "nobody logged in"
        return f"expected no row ({tried}), found last_seen {row.last_seen:.1f}, user {row.user}"
    last = max(real, key=lambda a: a.ended)
    for revocation in history.revocations:
        if (
            revocation.done
            and row.address in revocation.addresses
            and revocation.began > last.ended
        ):
            return (
                f"expected no row (revoked {revocation.began:.1f} to {revocation.ended:.1f} after"
                f" {_said(last)}), found last_seen {row.last_seen:.1f}"
            )
    newest = max(_latest(history, a) for a in real)
    if row.last_seen > newest + YOUNGER_S + lag_s:
        return (
            f"expected last_seen {newest:.1f} at the latest ({_said(last)}),"
            f" found a row younger by {row.last_seen - newest:.1f} s, user {row.user}"
        )
    return None


def _latest(history: History, attempt: Attempt) -> float:
    """Return the latest time that a row of *attempt* may have."""
    # It may be written, from the spool as well, in any stall after it.
    stalls = [stall for stall in history.stalls if stall.ended >= attempt.ended]
    longest_s = max((s.ended - max(s.began, attempt.ended) for s in stalls), default=0.0)
    return attempt.ended + longest_s


def _said(attempt: Attempt) -> str:
    return (
        f"the {attempt.outcome} login of {attempt.user} by {attempt.source}"
        f" {attempt.began:.1f} to {attempt.ended:.1f}"
    )
