"""Two ways of counting what was sent: a sliding window that is never exceeded, and a bucket that lets bursts through.

Pure: time is an argument, and never goes back. A call of more items than a limit has goes alone, and is waited for.
"""

from __future__ import annotations

from collections import deque


class Window:
    """At most `limit` items within any `span` seconds."""

    __slots__ = ("_limit", "_span", "_times")

    def __init__(self, limit: int, span: float) -> None:
        self._limit = limit
        self._span = span
        self._times: deque[float] = deque(maxlen=limit)

    def ready_at(self, items: int) -> float:
        """When so many items may be sent."""
        over = self._limit - min(items, self._limit)
        return self._times[-over - 1] + self._span if len(self._times) > over else 0.0

    def record(self, items: int, now: float) -> None:
        """They are sent."""
        self._times.extend([now] * min(items, self._limit))


class Bucket:
    """At most `burst` items at once, and `rate` a second in the long run: `burst + rate * s` within any s seconds."""

    __slots__ = ("_burst", "_each", "_full_at")

    def __init__(self, rate: float, burst: int) -> None:
        self._each = 1.0 / rate
        self._burst = burst
        self._full_at = 0.0

    def ready_at(self, items: int) -> float:
        """When so many items may be sent."""
        return self._full_at - (self._burst - min(items, self._burst)) * self._each

    def record(self, items: int, now: float) -> None:
        """They are sent."""
        self._full_at = max(self._full_at, now) + items * self._each
