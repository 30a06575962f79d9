"""A token bucket: so much a second on average, ten seconds' worth at once. Pure: time is an argument."""

from __future__ import annotations

BURST_SECONDS = 10.0


class Allowance:
    """What a child may still send."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second * BURST_SECONDS
        self._at: float | None = None

    def take(self, number: int, now: float) -> bool:
        """Use up so many; False when there were not as many left."""
        if self._at is not None:
            self._left = min(self._per_second * BURST_SECONDS, self._left + (now - self._at) * self._per_second)
        self._at = now
        self._left -= number
        return self._left >= 0
