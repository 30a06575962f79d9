"""What is done to whom, in which order: drawn from a seed, so that it can be done again. Pure."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from chaos.faults import FAULTS, HEAVY, Fault

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """`pause`: seconds to wait before it. `victim`: index of the bot; None when it has none."""

    number: int
    fault: Fault
    victim: int | None
    pause: float


def draw(seed: int, bots: int, steps: int, *, pause: float) -> list[Step]:
    """A plan in rounds: each round has every fault once (or by its weight), shuffled.

    Victims come in shuffled rounds of the whole fleet too, so that nobody is harmed again before all others were.
    """
    dice = random.Random(seed)  # a plan, no secret
    names = [fault.name for fault in FAULTS.values() for _ in range(fault.weight)]
    return [
        Step(number, FAULTS[name], victim, dice.uniform(0.2, 1.8) * pause)
        for number, (name, victim) in enumerate(_deal(dice, names, bots, steps))
    ]


def listed(names: Sequence[str], seed: int, bots: int, *, pause: float) -> list[Step]:
    """A plan of certain faults in this order; the seed draws the victims."""
    dice = random.Random(seed)
    victims = iter(_rounds(dice, list(range(bots)), len(names)))
    return [
        Step(number, FAULTS[name], next(victims) if FAULTS[name].victim else None, pause)
        for number, name in enumerate(names)
    ]


def _deal(dice: random.Random, names: list[str], bots: int, steps: int) -> list[tuple[str, int | None]]:
    found: list[tuple[str, int | None]] = []
    waiting: list[int] = []
    heavy: deque[int] = deque(maxlen=bots // 3)
    for name in _rounds(dice, names, steps):
        if not FAULTS[name].victim:
            found.append((name, None))
            continue
        # Two heavy faults on one bot within the period of its restart intensity would be one too many.
        barred = heavy if name in HEAVY else ()
        if all(one in barred for one in waiting):
            waiting += dice.sample(range(bots), bots)
        victim = next(one for one in waiting if one not in barred)
        waiting.remove(victim)
        if name in HEAVY:
            heavy.append(victim)
        found.append((name, victim))
    return found


def _rounds(dice: random.Random, items: list[T], number: int) -> list[T]:
    found: list[T] = []
    while len(found) < number:
        found += dice.sample(items, len(items))
    return found[:number]
