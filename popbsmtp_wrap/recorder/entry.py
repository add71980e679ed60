"""A login between its arrival and the moment when it is safe."""

from collections.abc import Callable
from typing import Final

from popbsmtp_wrap.config import Settings
from popbsmtp_wrap.login import Login

# Of the time that somebody waits at most: a commit, and then the spool, have to fit in.
_PATIENCE_SHARE: Final = 0.4
_SHORTEST_PATIENCE_S: Final = 0.1

# Hears None when a login is safe, else why it is not.
Answer = Callable[[str | None], None]


class Entry:
    """A login that is not safe yet, and who waits for that."""

    __slots__ = ("answers", "login", "since")

    def __init__(self, login: Login, since: float, answer: Answer) -> None:
        self.login = login
        self.since = since
        self.answers = [answer]

    @property
    def moment(self) -> float:
        """When the login was, on the monotonic clock."""
        return self.since - self.login.age_s

    def join(self, login: Login, since: float, answer: Answer) -> None:
        """Take another login of the same address along; the later one counts."""
        if since - login.age_s >= self.moment:
            self.login, self.since = login, since
        self.answers.append(answer)

    def answer(self, trouble: str | None) -> None:
        """Tell everybody who waits, once."""
        answers, self.answers = self.answers, []
        for answer in answers:
            answer(trouble)


def patience_s(settings: Settings) -> float:
    """Return how long a login waits for a commit before it goes to the spool.

    The wrapper gives the recorder half of its own time.
    """
    longest_s = min(settings.wrapper.wait / 2, settings.recorder.reply_timeout)
    return max(_SHORTEST_PATIENCE_S, longest_s * _PATIENCE_SHARE)
