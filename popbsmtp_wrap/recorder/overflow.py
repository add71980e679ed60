"""Logins that neither database nor spool takes: in memory, as long as the recorder lives."""

from collections.abc import Iterable

from popbsmtp_wrap.recorder.pending_login import PendingLogin


class Overflow:
    """The logins of at most *most* addresses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._logins: dict[str, PendingLogin] = {}

    def __len__(self) -> int:
        """Return how many addresses there are."""
        return len(self._logins)

    def add(self, pending: PendingLogin) -> bool:
        """Keep *pending*; return False when there is no room."""
        address = pending.login.address
        if (known := self._logins.get(address)) is not None:
            # Not the other way round: a commit of the known one may be under way, without this.
            if known is not pending:
                pending.merge(known)
        elif len(self._logins) >= self._most:
            return False
        self._logins[address] = pending
        return True

    def take(self) -> dict[str, PendingLogin]:
        """Return all of them by address, and keep none."""
        logins, self._logins = self._logins, {}
        return logins

    def take_unanswered(self) -> list[PendingLogin]:
        """Return those whose clients still wait, and keep the others."""
        found = [pending for pending in self._logins.values() if pending.askers]
        for pending in found:
            del self._logins[pending.login.address]
        return found

    def forget(self, addresses: Iterable[str] | None) -> None:
        """Drop the logins of *addresses*, None for all."""
        for address in list(self._logins) if addresses is None else addresses:
            self._logins.pop(address, None)
