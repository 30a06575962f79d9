"""How much one bot may publish, so that it neither keeps the router busy nor drives others out of the logs. Pure."""

from __future__ import annotations

from collections.abc import Callable

BURST = 16 * 1024 * 1024
"""Bytes that a bot may publish at once, for example what has waited while Redis was away."""

RATE = 512 * 1024
"""Bytes a second that it may publish on and on; an event of a message has about 1 kB with its overhead."""

OVERHEAD = 256
"""Bytes counted for an entry besides its own."""

EVENTS = 10_000
"""Events that a bot may publish at once, however small."""

EVENTS_RATE = 1_000
"""Events a second that it may publish on and on; Telegram lets no bot answer more than some 30 users a second."""


class Allowance:
    """A bucket of bytes and one of events for each bot. `clock` in seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        burst: float = BURST,
        rate: float = RATE,
        events: float = EVENTS,
        events_rate: float = EVENTS_RATE,
    ) -> None:
        self._clock = clock
        self._bytes = _Buckets(burst, rate)
        self._events = _Buckets(events, events_rate)

    def spend(self, bot_id: int, entries: int, size: int) -> None:
        """The bot has published these."""
        now = self._clock()
        self._bytes.spend(bot_id, entries * OVERHEAD + size, now)
        self._events.spend(bot_id, entries, now)

    def exhausted(self, bot_id: int) -> bool:
        """Whether its next events have to wait."""
        now = self._clock()
        over = [buckets.over(bot_id, now) for buckets in (self._bytes, self._events)]
        return any(over)


class _Buckets:
    """One for each bot, of one size."""

    def __init__(self, burst: float, rate: float) -> None:
        self._burst = burst
        self._rate = rate
        self._levels: dict[int, tuple[float, float]] = {}
        """By bot: what is not yet paid off, and when that was so."""

    def spend(self, bot_id: int, amount: float, now: float) -> None:
        self._levels[bot_id] = (self._level(bot_id, now) + amount, now)

    def over(self, bot_id: int, now: float) -> bool:
        level = self._level(bot_id, now)
        if level <= 0:
            self._levels.pop(bot_id, None)
        return level > self._burst

    def _level(self, bot_id: int, now: float) -> float:
        level, at = self._levels.get(bot_id, (0.0, 0.0))
        return max(0.0, level - (now - at) * self._rate)
