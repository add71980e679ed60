"""Logins between their arrival and the moment when they are safe."""

import asyncio
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.login import Login
from popbsmtp_wrap.server.handlers import Answer

# The same where nobody else is asked afterwards: the spool needs the rest on a slow disk.
_LAST_SHARE: Final = 0.5
# What takes the place of the time that the wrapper waits, for one that does not wait.
_UNHURRIED_S: Final = 2.0
# The share of a client's time that a commit may take; the spool needs the rest.
_COMMIT_SHARE: Final = 0.4
_SHORTEST_COMMIT_S: Final = 0.1
# Different logins of one address that wait for the same commit.
_MOST_ATTEMPTS: Final = 8


class _Attempt:
    """A login and those who asked for it."""

    __slots__ = ("answers", "login", "since")

    def __init__(self, login: Login, since: float, answers: list[Answer]) -> None:
        self.login = login
        self.since = since
        self.answers = answers

    @property
    def moment(self) -> float:
        return self.since - self.login.age_s


class PendingLogin:
    """The logins of one address that wait together; the latest is written.

    The others are kept until it is: should the database refuse the latest because of its user name,
    the one before it is still good.
    """

    __slots__ = ("_attempts", "_settled", "kept")

    def __init__(self, login: Login, since: float, answer: Answer | None) -> None:
        """*login* was *login.age_s* old at *since*, on the monotonic clock."""
        self._attempts = [_Attempt(login, since, [answer] if answer else [])]
        # Who waits until everybody is answered, also in those that were merged into this.
        self._settled: list[asyncio.Event] = []
        # Nobody waits for it: everybody has been told that it is not safe.
        self.kept = answer is None

    @property
    def login(self) -> Login:
        """The latest login."""
        return self._attempts[-1].login

    @property
    def since(self) -> float:
        """When the latest login was *login.age_s* old."""
        return self._attempts[-1].since

    @property
    def moment(self) -> float:
        """When the latest login was, on the monotonic clock."""
        return self._attempts[-1].moment

    @property
    def logins(self) -> list[tuple[Login, float]]:
        """All that wait, the latest last, each with when it was *login.age_s* old."""
        return [(attempt.login, attempt.since) for attempt in self._attempts]

    @property
    def askers(self) -> int:
        """How many wait for an answer."""
        return sum(len(attempt.answers) for attempt in self._attempts)

    @property
    def is_open(self) -> bool:
        """True until it is answered: it has to get into the table or the spool."""
        return self.kept or any(attempt.answers for attempt in self._attempts)

    def join(self, login: Login, since: float, answer: Answer) -> None:
        """Add another login of the same address."""
        self._add(_Attempt(login, since, [answer]))

    def merge(self, other: "PendingLogin") -> None:
        """Take over the logins of *other*, of the same address, and who waits for them."""
        self.kept, other.kept = self.kept or other.kept, False
        for attempt in other._attempts:  # noqa: SLF001 - the same class
            answers, attempt.answers = attempt.answers, []
            self._add(_Attempt(attempt.login, attempt.since, answers))
        self._settled += other._settled  # noqa: SLF001
        other._settled = []  # noqa: SLF001

    def refuse(self, reason: str) -> bool:
        """Answer the latest login with *reason*; return True if an earlier one is left."""
        refused = self._attempts[-1]
        if len(self._attempts) == 1:
            self.kept = False
            self.answer(reason)
            return False
        self._attempts.pop()
        answers, refused.answers = refused.answers, []
        for answer in answers:
            answer(reason)
        return True

    def answer(self, trouble: str | None) -> None:
        """Answer everybody, once."""
        self.kept = False
        for attempt in self._attempts:
            answers, attempt.answers = attempt.answers, []
            for answer in answers:
                answer(trouble)
        for event in self._settled:
            event.set()
        self._settled = []

    async def settled(self) -> None:
        """Return when everybody is answered."""
        if not self.is_open:
            return
        event = asyncio.Event()
        self._settled.append(event)
        await event.wait()

    def _add(self, new: _Attempt) -> None:
        for attempt in self._attempts:
            if (attempt.login.user, attempt.login.service) == (new.login.user, new.login.service):
                if attempt.moment <= new.moment:
                    attempt.login, attempt.since = new.login, new.since
                attempt.answers += new.answers
                break
        else:
            self._attempts.append(new)
        self._attempts.sort(key=lambda attempt: attempt.moment)
        if len(self._attempts) > _MOST_ATTEMPTS:
            oldest = self._attempts.pop(0)
            self._attempts[0].answers += oldest.answers


def commit_patience_s(settings: Settings) -> float:
    """Return how many seconds a login waits for a commit before it goes to the spool.

    The wrapper gives the recorder half of its own time.
    """
    longest_s = min(settings.wrapper.wait / 2, settings.recorder.reply_timeout)
    return max(_SHORTEST_COMMIT_S, longest_s * _COMMIT_SHARE)


def last_patience_s(settings: Settings) -> float:
    """Return the same for a recorder that has all of the wrapper's time."""
    return max(_SHORTEST_COMMIT_S, (settings.wrapper.wait or _UNHURRIED_S) * _LAST_SHARE)
