"""Telegram's flood control as token buckets: for each chat, each group and the whole bot. Pure: time is an argument.

What Telegram says of it (https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this): no more
than one message a second into a chat, short bursts are let through; no more than 20 a minute into a group; about 30 a
second over all chats. The real limits are secret and move. A burst of 0 switches a bucket off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

BUCKET_LIMIT = 10_000


@dataclass(slots=True)
class FloodControl:
    """At most `burst` messages at once into a chat, and `rate` a second in the long run; groups and bots likewise."""

    burst: int = 0
    rate: float = 1.0
    group_burst: int = 0
    group_rate: float = 20 / 60
    bot_burst: int = 0
    bot_rate: float = 30.0
    _buckets: dict[tuple[int, int | str], tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def telegram(cls) -> FloodControl:
        """All of it, as Telegram describes it; the burst into one chat is a guess."""
        return cls(burst=3, rate=1.0, group_burst=20, group_rate=20 / 60, bot_burst=30, bot_rate=30.0)

    def admit(self, bot_id: int, chat_id: int, now: float, *, group: bool = False, count: int = 1) -> int:
        """0 when so many messages may pass, else the whole seconds to wait; nothing is taken then.

        More messages at once than a bucket holds pass when it is full: an album is never refused for ever.
        """
        if self.burst <= 0 and self.group_burst <= 0 and self.bot_burst <= 0:
            return 0
        checked: list[tuple[tuple[int, int | str], float, float]] = []
        limits: tuple[tuple[tuple[int, int | str], int, float], ...] = (
            ((bot_id, chat_id), self.burst, self.rate),
            ((bot_id, f"group {chat_id}"), self.group_burst if group else 0, self.group_rate),
            ((bot_id, "bot"), self.bot_burst, self.bot_rate),
        )
        for key, burst, rate in limits:
            if burst > 0:
                tokens, since = self._buckets.get(key, (float(burst), now))
                tokens = min(float(burst), tokens + (now - since) * rate)
                checked.append((key, tokens, (min(count, burst) - tokens) / rate))
        wait = max((short for _, _, short in checked), default=0.0)
        if wait > 1e-9:
            return max(1, math.ceil(wait - 1e-9))
        if len(self._buckets) >= BUCKET_LIMIT:
            self._buckets.clear()
        for key, tokens, _ in checked:
            self._buckets[key] = (tokens - count, now)
        return 0
