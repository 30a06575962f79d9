"""How much one bot may publish, so that it neither keeps the router busy nor drives others out of logs and mailboxes.

Pure. What the router has read and may not route yet stays in the bot's out stream.
"""

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

COPIES = 16 * 1024 * 1024
"""Bytes that a bot's events may take in others' mailboxes at once: each receiver has its copy. An event of the greatest
size for 500 receivers is twice that, and waited for afterwards; mailboxes have 51 MB together where Redis has 256."""

COPIES_RATE = 2 * 1024 * 1024
"""Bytes of them a second on and on: 20 events of 1 kB for 100 receivers. What was read goes within 10 s."""

LOOKS = 50
"""Subscriptions that are looked at in the time that one event takes, about."""


class Allowance:
    """A bucket of bytes, one of events and one of copies for each bot. `clock` in seconds."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        burst: float = BURST,
        rate: float = RATE,
        events: float = EVENTS,
        events_rate: float = EVENTS_RATE,
        copies: float = COPIES,
        copies_rate: float = COPIES_RATE,
    ) -> None:
        self._clock = clock
        self._bytes = _Buckets(burst, rate)
        self._events = _Buckets(events, events_rate)
        self._copies = _Buckets(copies, copies_rate)

    def spend(self, bot_id: int, entries: int, size: int) -> None:
        """The bot has published these."""
        now = self._clock()
        self._bytes.spend(bot_id, entries * OVERHEAD + size, now)
        self._events.spend(bot_id, entries, now)

    def routed(self, bot_id: int, copies: int, looks: int) -> bool:
        """Events of it have put so many bytes into mailboxes, after a look at so many subscriptions.

        Whether its next one has to wait.
        """
        now = self._clock()
        if copies:
            self._copies.spend(bot_id, copies, now)
        if looks >= LOOKS:
            self._events.spend(bot_id, looks // LOOKS, now)
        return bool(copies and self._copies.over(bot_id, now)) or bool(looks and self._events.over(bot_id, now))

    def exhausted(self, bot_id: int) -> bool:
        """Whether its next events have to wait."""
        now = self._clock()
        over = [buckets.over(bot_id, now) for buckets in (self._bytes, self._events, self._copies)]
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
