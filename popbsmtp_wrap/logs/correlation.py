"""What one line leaves for a later one, bounded."""

from typing import Final, Generic, TypeVar

# Sessions between two lines at the same time, on a large server (about 4 MB when full).
_GENERATION: Final = 10_000
Value = TypeVar("Value")


class Memory(Generic[Value]):
    """The last 10,000 to 20,000 values by key: two generations, of which the older one is dropped.

    An outsider who opens connections without end pushes others out; then their logins do not count.
    """

    def __init__(self, generation: int = _GENERATION) -> None:
        self._generation = generation
        self._young: dict[tuple[str | bytes, ...], Value] = {}
        self._old: dict[tuple[str | bytes, ...], Value] = {}

    def put(self, key: tuple[str | bytes, ...], value: Value) -> None:
        """Remember *value*, instead of an earlier one."""
        if len(self._young) >= self._generation:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def take(self, key: tuple[str | bytes, ...]) -> Value | None:
        """Return what was remembered and forget it."""
        old = self._old.pop(key, None)
        young = self._young.pop(key, None)
        return old if young is None else young

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
