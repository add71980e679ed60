"""Several logins of one address in a batch: the latest is written, unless it is refused."""

from collections.abc import Iterable

from popbsmtp_wrap.store.batch import Seen


class LatestFirst:
    """Batches of logins with one login for each address, the latest first.

    The database may refuse a login because of its user name, and take the one before it.
    """

    def __init__(self, logins: Iterable[Seen]) -> None:
        self._left: dict[str, list[Seen]] = {}
        for seen in logins:
            self._left.setdefault(seen.login.address, []).append(seen)
        for attempts in self._left.values():
            attempts.sort(key=lambda seen: seen.since - seen.login.age_s)
        self._due = list(self._left)

    def next_batch(self) -> list[Seen]:
        """Return the logins to write now; none when everything is written or refused."""
        due, self._due = self._due, []
        return [self._left[address].pop() for address in due]

    def refused(self, addresses: Iterable[str]) -> None:
        """Have next_batch() return the login before the refused one, where there is one."""
        self._due += [address for address in addresses if self._left.get(address)]
