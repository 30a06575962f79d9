"""How long to wait before the next attempt. Pure but for the jitter."""

from __future__ import annotations

import random


class Backoff:
    """Doubles from `first` to `limit` seconds, each with up to a half taken off at random."""

    def __init__(self, first: float = 0.05, limit: float = 5.0) -> None:
        self.first = first
        self.limit = limit
        self._failures = 0

    def reset(self) -> None:
        """The attempt has succeeded."""
        self._failures = 0

    def next(self) -> float:
        """The attempt has failed: seconds to wait."""
        delay = min(self.limit, self.first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return delay * (0.5 + random.random() / 2)
