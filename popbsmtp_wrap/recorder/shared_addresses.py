"""Addresses from which many users log in: NAT, webmail, a proxy, the gateway of a container.

One login there opens the relay for everybody behind the address. Users are kept as hashes, for
grace; times are those of the monotonic clock.
"""

from itertools import islice
from typing import Final

from popbsmtp_wrap.login import Login

# Beyond these the address that has been silent for longest is forgotten. An address takes about
# 400 bytes and a user 120, so that both bounds together are 80 MB.
MOST_ADDRESSES: Final = 50_000
MOST_USERS: Final = 500_000
_MOST_FORGOTTEN: Final = 20
_NEVER: Final = float("-inf")


class _Address:
    """When each user last logged in from an address, the one whose login is oldest first."""

    __slots__ = ("heard", "reported", "users")

    def __init__(self) -> None:
        self.users: dict[int, float] = {}
        self.heard = _NEVER
        self.reported = _NEVER


class SharedAddresses:
    """Counts the different users of each address within *grace_s* seconds; bounded.

    Of an address, shared_users + 1 users are kept: one more than it may have without being shared.
    """

    def __init__(
        self,
        shared_users: int,
        grace_s: float,
        most_addresses: int = MOST_ADDRESSES,
        most_users: int = MOST_USERS,
    ) -> None:
        """An address is shared when more than *shared_users* users log in from it within grace."""
        self.adopt(shared_users, grace_s)
        self._most_addresses = most_addresses
        self._most_users = most_users
        # The one that has been silent for longest comes first.
        self._addresses: dict[str, _Address] = {}
        self._users = 0
        self._shared: set[str] = set()

    def __len__(self) -> int:
        """Return how many addresses are kept, some of them perhaps for too long."""
        return len(self._addresses)

    @property
    def users(self) -> int:
        """How many users of all addresses are kept."""
        return self._users

    def adopt(self, shared_users: int, grace_s: float) -> None:
        """Go on with other limits. Above the old ones, counts begin with what was kept."""
        self._most = shared_users + 1
        self._grace_s = grace_s

    def add(self, login: Login, now: float) -> int:
        """Count *login*, *login.age_s* old at *now*; return as users_if_shared() does.

        A login without a user name counts for nobody.
        """
        kept = self._addresses.pop(login.address, None)
        if kept is None:
            if login.user is None:
                return 0
            kept = _Address()
        self._addresses[login.address] = kept
        kept.heard = now
        if login.user is not None:
            # Python's hash has a secret of this process: nobody can find two names with one hash.
            self._add_user(kept, hash(login.user), now - login.age_s)
        self._forget_addresses(now)
        return self.users_if_shared(login.address, now)

    def users_if_shared(self, address: str, now: float) -> int:
        """Return how many users logged in from *address* within grace, 0 if it is not shared.

        Not more than shared_users + 1, which is all that is counted.
        """
        kept = self._addresses.get(address)
        if kept is not None:
            self._forget_users(kept, now)
        if kept is None or len(kept.users) < self._most:
            self._shared.discard(address)
            return 0
        self._shared.add(address)
        return self._most

    def is_news(self, address: str, now: float) -> bool:
        """Tell whether *address* was not reported within grace; from now on it was."""
        kept = self._addresses.get(address)
        if kept is None or kept.reported >= now - self._grace_s:
            return False
        kept.reported = now
        return True

    def shared(self, now: float) -> list[str]:
        """Return the addresses that are shared at *now*, sorted."""
        return sorted(a for a in tuple(self._shared) if self.users_if_shared(a, now))

    def _add_user(self, kept: _Address, user: int, moment: float) -> None:
        """Keep *user* as seen at *moment*."""
        users = kept.users
        self._users -= len(users)
        moment = max(moment, users.pop(user, moment))
        last = next(reversed(users.values())) if users else _NEVER
        users[user] = moment
        if moment < last:
            # A login that is read late: rare, and there are few to sort.
            kept.users = dict(sorted(users.items(), key=lambda item: item[1]))
        self._users += len(users)

    def _forget_users(self, kept: _Address, now: float) -> None:
        """Drop users who logged in too long ago, and the oldest ones that there is no room for."""
        oldest = now - self._grace_s
        while kept.users:
            user, moment = next(iter(kept.users.items()))
            if moment >= oldest and len(kept.users) <= self._most:
                break
            del kept.users[user]
            self._users -= 1

    def _forget_addresses(self, now: float) -> None:
        """Drop addresses that were silent for grace, and those that there is no room for."""
        for address in list(islice(self._addresses, _MOST_FORGOTTEN)):
            kept = self._addresses[address]
            full = len(self._addresses) > self._most_addresses or self._users > self._most_users
            if not full and kept.heard >= now - self._grace_s:
                break
            self._users -= len(kept.users)
            del self._addresses[address]
            self._shared.discard(address)
