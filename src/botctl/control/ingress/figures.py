"""What the ingress has done, in numbers: by bot where somebody has shown its secret, else in all. Only grows."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of latencies, in seconds from a request's first line to its answer."""


@dataclass
class Figures:
    """Written by the ingress alone, read by anybody."""

    stored: Counter[int] = field(default_factory=Counter)
    """Updates stored that were not there yet, by bot_id."""
    repeated: Counter[int] = field(default_factory=Counter)
    """Updates that were there already, by bot_id."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests that were not answered with 200, by why: `stranger`, `busy`, `large`, `slow`, `away`, `odd`."""
    pushed_out: int = 0
    """Connections closed for others, or because their network may not connect."""
    latencies: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    latency_sum: float = 0.0
    newest_seen: dict[int, tuple[str, float]] = field(default_factory=dict)
    """The secret with which Telegram came first and when (monotonic), of those that were the newest then, by bot_id."""
    last_stored: dict[int, float] = field(default_factory=dict)
    """Monotonic, by bot_id."""

    def took(self, seconds: float) -> None:
        """A request with a right secret has been answered."""
        self.latencies[bisect_left(BOUNDS, seconds)] += 1
        self.latency_sum += seconds
