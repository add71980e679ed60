"""How long to leave something alone that has failed."""

import random
from typing import Final

_FIRST_S: Final = 0.2
_LONGEST_S: Final = 5.0


class Pauses:
    """Pauses that grow, with jitter: not all who lost the same server come back at once."""

    def __init__(self) -> None:
        self._next_s = _FIRST_S

    def reset(self) -> None:
        """Begin again with the first one."""
        self._next_s = _FIRST_S

    def next_s(self) -> float:
        """Return the seconds of the next one."""
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, _LONGEST_S)
        return pause_s * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
