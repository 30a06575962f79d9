"""What is ordinary for one bot: mean and variance of a flow's rate, learned hour by hour. Pure.

Exponentially weighted mean and variance (Finch, *Incremental calculation of weighted mean and variance*, 2009), as
control charts use them (Roberts 1959; NIST/SEMATECH e-Handbook 6.3.2.4), one pair for each hour of the day (UTC),
because chats follow the clock. Three things keep it honest:

- Counts of independent messages vary at least as a Poisson variable does, so the deviation is never taken as smaller
  than the root of the mean; a quiet hour's third message is no alarm.
- An unusual sample, however large, is learned as two deviations above the mean: an attack moves the baseline slowly,
  and a lasting change of ten times is learned within half an hour or so.
- An hour with few samples borrows the busiest of what is known; a bot with few samples altogether is never judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

WEIGHT = 0.05
"""Of a new sample: the mean follows with a time constant of 20 samples."""

ENOUGH = 30
"""Samples before a bot is judged at all."""

SIGMAS = 6.0
"""Deviations above the mean that are unusual. Rates of chats have long tails; 3 would be an alarm an hour."""

UNUSUAL = 2.0
"""Deviations above the mean as which an unusual sample is learned."""

LEAST = 30.0
"""Per minute: less than this is no flood, whatever the baseline says."""


@dataclass(frozen=True, slots=True)
class Level:
    """Of one hour of the day, per minute."""

    mean: float = 0.0
    variance: float = 0.0
    samples: int = 0

    def after(self, rate: float) -> Level:
        """With one more sample."""
        if self.samples == 0:
            return Level(rate, 0.0, 1)
        weight = max(WEIGHT, 1 / (self.samples + 1))
        step = rate - self.mean
        mean = self.mean + weight * step
        return Level(mean, (1 - weight) * (self.variance + weight * step * step), min(self.samples + 1, 10_000))

    @property
    def limit(self) -> float:
        """Above this a rate is unusual."""
        return max(LEAST, self.above(SIGMAS))

    def above(self, deviations: float) -> float:
        """A rate so many deviations above the mean."""
        return self.mean + deviations * math.sqrt(max(self.variance, self.mean, 1.0))


@dataclass(frozen=True, slots=True)
class Baseline:
    """One bot's and one flow's: 24 levels at most."""

    hours: Mapping[int, Level] = field(default_factory=dict)

    def limit(self, at: float) -> float | None:
        """Per minute; None while too little is known."""
        if sum(level.samples for level in self.hours.values()) < ENOUGH:
            return None
        level = self.hours.get(_hour(at))
        if level is not None and level.samples >= ENOUGH:
            return level.limit
        return max(known.limit for known in self.hours.values())

    def after(self, at: float, rate: float) -> Baseline:
        """Having learned from one more rate."""
        limit = self.limit(at)
        hour = _hour(at)
        known = self.hours.get(hour, Level())
        if limit is not None and rate > limit:
            rate = known.above(UNUSUAL) if known.samples else limit
        return Baseline({**self.hours, hour: known.after(rate)})


def _hour(at: float) -> int:
    return int(at // 3600) % 24
