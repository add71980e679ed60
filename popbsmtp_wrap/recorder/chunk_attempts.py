"""What to write of a chunk of the spool, and what of it has to stay there."""

from collections.abc import Callable, Iterable

from popbsmtp_wrap.login import Login
from popbsmtp_wrap.spool.reader import Chunk
from popbsmtp_wrap.spool.timestamp import Stamp
from popbsmtp_wrap.store.batch import Outcome, Seen

# A login as the spool has it.
_Stored = tuple[Login, Stamp]


class ChunkAttempts:
    """Batches with one login for each address, the latest first, until each is dealt with.

    The database may refuse a login because of its user name, and take the one before it. A locked
    row keeps all logins of its address in the spool: once it is free, the latest may be refused.
    """

    def __init__(
        self, chunk: Chunk, now: float, held: Callable[[str], bool] = frozenset().__contains__
    ) -> None:
        """The logins of *chunk* are as old as they say at *now*, on the monotonic clock.

        Those of an address that is *held* are not tried.
        """
        # What has to be in the spool again before the chunk is forgotten.
        self.put_back: list[_Stored] = []
        self.refused = 0
        self._count = len(chunk.logins)
        self._left: dict[str, list[tuple[Seen, _Stored]]] = {}
        self._tried: dict[str, _Stored] = {}
        for login, stored in zip(chunk.logins, chunk.stored, strict=True):
            if held(login.address):
                self.put_back.append(stored)
            else:
                self._left.setdefault(login.address, []).append((Seen(login, now), stored))
        for attempts in self._left.values():
            attempts.sort(key=lambda attempt: -attempt[0].login.age_s)
        self._due = list(self._left)

    def next_batch(self) -> list[Seen]:
        """Return the logins to write now; none when the whole chunk is dealt with."""
        batch = []
        for address in self._due:
            seen, self._tried[address] = self._left[address].pop()
            batch.append(seen)
        self._due = []
        return batch

    def learn(self, outcome: Outcome) -> None:
        """Take in what became of the last batch."""
        for seen, _ in outcome.refused:
            self.refused += 1
            if self._left[seen.login.address]:
                self._due.append(seen.login.address)
        self.put_off([seen for seen, _ in outcome.locked])

    def put_off(self, batch: Iterable[Seen]) -> None:
        """Keep the logins of *batch*, and all before them of the same addresses, for later."""
        for seen in batch:
            earlier = self._left[seen.login.address]
            self.put_back += [stored for _, stored in earlier]
            self.put_back.append(self._tried[seen.login.address])
            earlier.clear()

    @property
    def written(self) -> int:
        """How many logins are in the table, or have a later one of their address there."""
        return self._count - self.refused - len(self.put_back)
