"""What a fault is, and the registry of all."""

import random
from collections.abc import Callable
from typing import ClassVar, TypeVar

from tests.chaos.databases import KINDS
from tests.chaos.site import Site


class Fault:
    """Something that goes wrong, and how it is put right again.

    apply() may take as long as it needs, and leave nothing for undo(). *alone* says that no other
    fault counts meanwhile: only then may it insist on more than the three invariants.
    """

    name: ClassVar[str]
    weight: ClassVar[float] = 1.0
    kinds: ClassVar[tuple[str, ...]] = KINDS

    def __init__(self, site: Site, rng: random.Random, hold_s: float, *, alone: bool) -> None:
        self.site = site
        self.rng = rng
        self.hold_s = hold_s
        self.alone = alone

    def apply(self) -> None:
        """Begin."""

    def undo(self) -> None:
        """Put it right again; harmless when it was not begun."""


FAULTS: dict[str, type[Fault]] = {}
Kind = TypeVar("Kind", bound=type[Fault])


def fault(name: str, weight: float = 1.0, kinds: tuple[str, ...] = KINDS) -> Callable[[Kind], Kind]:
    """Register a class as the fault *name* for databases of *kinds*."""

    def register(cls: Kind) -> Kind:
        cls.name, cls.weight, cls.kinds = name, weight, kinds
        FAULTS[name] = cls
        return cls

    return register


def weights(kind: str, names: tuple[str, ...] = ()) -> dict[str, float]:
    """Return the weights of all faults of a database, or of *names* alone, by name."""
    unknown = set(names) - FAULTS.keys()
    if unknown:
        raise SystemExit(f"no such fault: {', '.join(sorted(unknown))}; all: {', '.join(FAULTS)}")
    return {
        name: cls.weight
        for name, cls in FAULTS.items()
        if kind in cls.kinds and (not names or name in names)
    }
