"""How much one bot may publish, so that it neither keeps the router busy nor drives others out of the logs. Pure."""

from __future__ import annotations

from collections.abc import Callable

BURST = 16 * 1024 * 1024
"""Bytes that a bot may publish at once, for example what has waited while Redis was away."""

RATE = 512 * 1024
"""Bytes a second that it may publish on and on; an event of a message has about 1 kB with its overhead."""

OVERHEAD = 256
"""Bytes counted for an entry besides its own."""


class Allowance:
    """A bucket for each bot. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float], *, burst: float = BURST, rate: float = RATE) -> None:
        self._clock = clock
        self._burst = burst
        self._rate = rate
        self._levels: dict[int, tuple[float, float]] = {}
        """By bot: bytes not yet paid off, and when that was so."""

    def spend(self, bot_id: int, entries: int, size: int) -> None:
        """The bot has published these."""
        self._levels[bot_id] = (self._level(bot_id) + entries * OVERHEAD + size, self._clock())

    def exhausted(self, bot_id: int) -> bool:
        """Whether its next events have to wait."""
        level = self._level(bot_id)
        if level <= 0:
            self._levels.pop(bot_id, None)
        return level > self._burst

    def _level(self, bot_id: int) -> float:
        level, at = self._levels.get(bot_id, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) * self._rate)
