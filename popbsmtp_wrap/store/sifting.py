"""Part a batch into what the table takes, what it refuses, and what others have locked."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from popbsmtp_wrap.errors import LockedError, MisfitError, PopbsmtpError, RowRefusedError
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.store.engine import is_ambiguous
from popbsmtp_wrap.store.upsert import spellings

if TYPE_CHECKING:
    from popbsmtp_wrap.store.batch import BatchWriter

# Other writers hold a row for some milliseconds. The recorder spools what is not committed within
# about 0.4 s (recorder/pending_login.py).
_LOCK_S: Final = 0.15


class Seen(NamedTuple):
    """A login that was *login.age_s* old at *since*, on the monotonic clock."""

    login: Login
    since: float


class NotWritten(NamedTuple):
    """A login of a batch that is not in the table, and what the database says of it."""

    seen: Seen
    reason: str


class Outcome(NamedTuple):
    """What became of a batch: each login that is in neither list is committed.

    *refused*: the database will never take these as they are (a constraint, a trigger, a length).
    *locked*: somebody else holds these rows; they can be written later.
    """

    refused: Sequence[NotWritten] = ()
    locked: Sequence[NotWritten] = ()


class Sifting:
    """Writes one batch: as a whole, and by halves around the rows that cannot be written."""

    def __init__(self, writer: "BatchWriter", deadline: float) -> None:
        """Look for locked rows until *deadline*, on the monotonic clock."""
        self._writer = writer
        self._deadline = deadline
        # Whether what took too long is known to be a lock.
        self._is_lock = writer.store.dialect.lock_limit_is_exact
        self._refused: list[NotWritten] = []
        self._locked: list[NotWritten] = []
        # What failed alone, by an error that may be everybody's.
        self._doubtful: list[tuple[Seen, PopbsmtpError]] = []
        self._wrote = False
        self._is_free = False
        self._has_doubts = False
        self._lock_s: float | None = _LOCK_S if writer.store.dialect.locks_rows else None
        self._pieces: list[Sequence[Seen]] = []

    def write(self, batch: Sequence[Seen]) -> Outcome:
        """Do as BatchWriter.write() says."""
        self._pieces = [batch] if batch else []
        try:
            self._write_pieces()
            self._settle_doubts()
        except PopbsmtpError:
            # The next connection may lead to another server.
            self._writer.reconnect()
            raise
        return Outcome(tuple(self._refused), tuple(self._locked))

    def _write_pieces(self) -> None:
        while self._pieces:
            piece = self._pieces.pop()
            try:
                self._commit(piece)
                self._wrote = True
            except LockedError as error:
                if not self._writer.store.dialect.locks_rows:
                    raise
                self._go_around(piece, error)
            except PopbsmtpError as error:
                self._find_refused(piece, error)

    def _find_refused(self, piece: Sequence[Seen], error: PopbsmtpError) -> None:
        """Go on around a row of *piece* that *error* may be of; raise it when it is everybody's."""
        is_refused = isinstance(error, RowRefusedError)
        if not is_refused:
            if not is_ambiguous(self._writer.store, error):
                raise error
            if not self._has_doubts:
                self._writer.take_table(max(self._deadline - time.monotonic(), _LOCK_S))
                self._has_doubts = True
        if len(piece) > 1:
            self._halve(piece)
        elif is_refused:
            self._refused.append(NotWritten(piece[0], str(error)))
        else:
            self._doubtful.append((piece[0], error))

    def _settle_doubts(self) -> None:
        """Find out whether what failed alone is refused, or whether nobody's login is taken.

        Each is tried once more on a new connection: the error may have passed.
        """
        if not self._doubtful:
            return
        self._writer.reconnect()
        again, self._doubtful = self._doubtful, []
        self._pieces = [[seen] for seen, _ in reversed(again)]
        self._write_pieces()
        if not self._doubtful:
            return
        if not self._writer.takes_others():
            error = self._doubtful[0][1]
            error.in_doubt = True
            raise error
        self._refused += [NotWritten(seen, str(error)) for seen, error in self._doubtful]

    def _commit(self, piece: Sequence[Seen]) -> None:
        if len(piece) > 1:
            self._writer.commit(piece, self._lock_s)
            return
        [seen] = piece
        attempts = spellings(seen.login)
        for login in attempts:
            try:
                self._writer.commit([Seen(login, seen.since)], self._lock_s)
            except MisfitError:
                if login is attempts[-1]:
                    raise
            else:
                return

    def _go_around(self, piece: Sequence[Seen], error: LockedError) -> None:
        """Set aside the locked rows of *piece*. Raise when it is the table that is locked."""
        left_s = self._deadline - time.monotonic()
        was_free = self._is_free
        if not was_free:
            # Whoever waits for the table waits until the deadline.
            self._writer.take_table(max(left_s, _LOCK_S))
            self._is_free = True
        elif left_s <= 0:
            if not self._wrote:
                raise error
            for rest in (piece, *self._pieces):
                self._set_aside(rest, error)
            self._pieces = []
            return
        held = self._writer.held({seen.login.address for seen in piece})
        if held:
            self._set_aside([seen for seen in piece if seen.login.address in held], error)
            rest = [seen for seen in piece if seen.login.address not in held]
            self._pieces += [rest] if rest else []
        elif not was_free:
            # The lock was the table's.
            self._pieces.append(piece)
        elif not self._is_lock:
            # It may be a server that is slow.
            self._is_lock, self._lock_s = True, None
            self._pieces.append(piece)
        elif len(piece) == 1:
            self._set_aside(piece, error)
        else:
            self._lock_s = _LOCK_S
            self._halve(piece)

    def _set_aside(self, piece: Sequence[Seen], error: LockedError) -> None:
        self._locked += [NotWritten(seen, str(error)) for seen in piece]

    def _halve(self, piece: Sequence[Seen]) -> None:
        middle = len(piece) // 2
        self._pieces += [piece[middle:], piece[:middle]]
