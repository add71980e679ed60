"""One change to many rows, around those that are locked or that the database refuses to change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, TypeVar

from sqlalchemy.engine import Connection

from popbsmtp_wrap.errors import LockedError, PopbsmtpError, RowRefusedError
from popbsmtp_wrap.store.engine import Store, is_ambiguous, retrying

Result = TypeVar("Result")

# After as many rows that fail alone, by errors that may be everybody's, no more are tried.
_MOST_DOUBTFUL: Final = 3


@dataclass
class Changed(Generic[Result]):
    """What became of the rows: results of the transactions, and addresses that were left out.

    *locked*: another transaction holds these. *refused*: a trigger or a constraint forbids it.
    """

    results: list[Result] = field(default_factory=list)
    locked: dict[str, LockedError] = field(default_factory=dict)
    refused: dict[str, PopbsmtpError] = field(default_factory=dict)


def change_rows(
    store: Store,
    addresses: Sequence[str],
    change: Callable[[Sequence[str], Connection], Result],
    *,
    most_locked: int | None = None,
) -> Changed[Result]:
    """Have *change* done to the rows of *addresses*: in one transaction, by halves if that fails.

    Up to *most_locked* rows that others hold are left out, any number for None; beyond that, and
    for 0, raise LockedError. Raise other errors that are not those of single rows.
    """
    if not store.dialect.locks_rows:
        most_locked = 0
    done = Changed[Result]()
    pieces = [addresses]
    while pieces:
        piece = pieces.pop()
        try:
            work = partial(change, piece)
            done.results.append(retrying(store, work, wait_for_locks=most_locked == 0))
        except PopbsmtpError as error:
            if isinstance(error, LockedError):
                if most_locked is not None and len(done.locked) >= most_locked:
                    raise
            elif not may_be_of_one_row(store, error):
                raise
            if len(piece) > 1:
                middle = len(piece) // 2
                pieces += [piece[middle:], piece[:middle]]
            else:
                _leave_out(done, piece[0], error)
    _check_doubtful(done, 1)
    return done


def _leave_out(done: Changed[Result], address: str, error: PopbsmtpError) -> None:
    if isinstance(error, LockedError):
        done.locked[address] = error
    else:
        done.refused[address] = error
        _check_doubtful(done, _MOST_DOUBTFUL)


def _check_doubtful(done: Changed[Result], most: int) -> None:
    """Raise the error of *most* rows or more if it may be everybody's, as long as none changed."""
    errors = [e for e in done.refused.values() if not isinstance(e, RowRefusedError)]
    if not done.results and len(errors) >= most:
        raise errors[0]


def may_be_of_one_row(store: Store, error: PopbsmtpError) -> bool:
    """Tell whether the database may raise *error* for one row and take the same for others."""
    return isinstance(error, RowRefusedError) or is_ambiguous(store, error)
