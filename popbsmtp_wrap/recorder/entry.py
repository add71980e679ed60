"""A login between its arrival and the moment when it is safe."""

from collections.abc import Callable

from popbsmtp_wrap.login import Login

# Hears None when a login is safe, else why it is not.
Answer = Callable[[str | None], None]


class Entry:
    """A login that is not safe yet, and who waits for that."""

    __slots__ = ("answers", "login", "since")

    def __init__(self, login: Login, since: float, answer: Answer) -> None:
        self.login = login
        self.since = since
        self.answers = [answer]

    def join(self, login: Login, since: float, answer: Answer) -> None:
        """Take a later login of the same address along."""
        self.login, self.since = login, since
        self.answers.append(answer)

    def answer(self, trouble: str | None) -> None:
        """Tell everybody who waits, once."""
        answers, self.answers = self.answers, []
        for answer in answers:
            answer(trouble)
