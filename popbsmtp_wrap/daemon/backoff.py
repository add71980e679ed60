"""How long to wait before something that failed is tried again."""

import random
from typing import Final

FIRST_S: Final = 0.2
LONGEST_S: Final = 5.0


class Backoff:
    """Pauses that double from *first_s* to *longest_s*.

    Each is varied by a fifth, so that the clients of a server that was restarted do not all come
    back in the same moment.
    """

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._next_s = first_s

    def reset(self) -> None:
        """Start over with the first pause: it worked."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """Return the next pause in seconds."""
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
