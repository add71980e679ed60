"""Logins that neither database nor spool takes: in memory, as long as the recorder lives."""

from collections.abc import Iterable

from popbsmtp_wrap.recorder.entry import Entry


class Kept:
    """The last login of each address, of at most *most* addresses."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[str, Entry] = {}

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._entries)

    def add(self, entry: Entry) -> bool:
        """Keep *entry* unless there is a later one of its address; False when there is no room."""
        address = entry.login.address
        before = self._entries.get(address)
        if before is None and len(self._entries) >= self._most:
            return False
        if before is None or before.moment <= entry.moment:
            self._entries[address] = entry
        return True

    def take(self) -> dict[str, Entry]:
        """Return all of them by address, and keep none."""
        entries, self._entries = self._entries, {}
        return entries

    def forget(self, addresses: Iterable[str] | None) -> None:
        """Keep those of *addresses* no longer, None for all."""
        for address in list(self._entries) if addresses is None else addresses:
            self._entries.pop(address, None)
