"""Interleaved runs, their medians and ratios, printed as a table."""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

Result = TypeVar("Result")
Cell = str | float | int


def interleaved(
    variants: Mapping[str, Callable[[], Result]], rounds: int
) -> dict[str, list[Result]]:
    """Return the results of *rounds* runs of each variant, in the order A B C A B C.

    A disturbance from outside hits all variants alike. One round before them is thrown away.
    """
    results: dict[str, list[Result]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            result = run()
            if number:
                results[name].append(result)
    return results


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that *percent* of *values* do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def ms(seconds: float) -> str:
    """Return *seconds* as text in milliseconds."""
    return f"{seconds * 1000:.1f}" if seconds < 0.1 else f"{seconds * 1000:.0f}"


def print_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print a Markdown table; floats are ratios and get two digits."""
    texts = [list(header), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in texts) for column in range(len(header))]
    texts.insert(1, ["-" * width for width in widths])
    print(f"\n### {title}\n")
    for line in texts:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)


def _text(cell: Cell) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
