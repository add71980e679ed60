"""Which faults come when: derived from the seed alone."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# What each fault costs beside the time that it is held.
_OVERHEAD_S: Final = 2.0
_LONGEST_HOLD_S: Final = 4.0


@dataclass(frozen=True)
class Step:
    """One fault, or two at once: begun, held, undone, and a pause."""

    names: tuple[str, ...]
    seed: int
    hold_s: float
    pause_s: float


def plan(seed: int, seconds: float, weights: Mapping[str, float], together: float) -> list[Step]:
    """Return the steps of about *seconds*; *weights* are those of the faults by name.

    Every fault comes once before any comes by its weight, as far as the time goes. Two come at
    once with the probability *together*.
    """
    rng = random.Random(seed)
    names = list(weights)
    first = rng.sample(names, k=len(names))
    steps: list[Step] = []
    left_s = seconds
    while left_s > 0:
        chosen = [first.pop() if first else _pick(rng, weights)]
        if len(names) > 1 and rng.random() < together:
            other = _pick(rng, weights)
            if other not in chosen:
                chosen.append(other)
        step = Step(
            tuple(chosen),
            rng.getrandbits(32),
            round(rng.uniform(0.5, _LONGEST_HOLD_S), 2),
            round(rng.uniform(0.1, 1.5), 2),
        )
        steps.append(step)
        left_s -= step.hold_s + step.pause_s + _OVERHEAD_S * len(chosen)
    return steps


def _pick(rng: random.Random, weights: Mapping[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]
