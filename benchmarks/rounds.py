"""Several ways of doing one thing, measured in turns so that noise hits all alike; and tables of what came out."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence

Work = Callable[[int], Awaitable[Mapping[str, float]]]
"""Does one round, given its number, and says how long each step took, in seconds."""


async def in_turns(ways: Mapping[str, Work], rounds: int, *, warm: int = 50) -> dict[str, dict[str, float]]:
    """Median seconds by way and step. Each round begins with another way; the first `warm` ones don't count."""
    names = list(ways)
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for number in range(warm + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            for step, seconds in (await ways[name](number)).items():
                if number >= warm:
                    taken[name].setdefault(step, []).append(seconds)
    return {
        name: {step: statistics.median(seconds) for step, seconds in steps.items()} for name, steps in taken.items()
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; every column but the first is of numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def micro(seconds: float) -> str:
    """Microseconds, as many digits as mean something."""
    figure = seconds * 1e6
    return f"{figure:.1f}" if figure < 100 else f"{figure:.0f}"


def ratio(one: float, other: float) -> str:
    """How many times `other` is in `one`."""
    return f"{one / other:.3f}"
