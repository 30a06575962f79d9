"""Telegram's flood control as a token bucket for each chat. Pure: time is an argument.

The real limits are secret and move; about one message a second into a chat is fine, bursts are let through, then 429
with the seconds to wait follows. Here the limits are whatever the operator sets; a burst of 0 switches them off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

BUCKET_LIMIT = 10_000


@dataclass(slots=True)
class FloodControl:
    """At most `burst` messages at once into a chat, and `rate` a second in the long run."""

    burst: int = 0
    rate: float = 1.0
    _buckets: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)

    def admit(self, bot_id: int, chat_id: int, now: float) -> int:
        """0 when the message may pass, else the whole seconds to wait."""
        if self.burst <= 0:
            return 0
        key = (bot_id, chat_id)
        tokens, since = self._buckets.get(key, (float(self.burst), now))
        tokens = min(float(self.burst), tokens + (now - since) * self.rate)
        if tokens < 1:
            self._buckets[key] = (tokens, now)
            return max(1, math.ceil((1 - tokens) / self.rate))
        if len(self._buckets) >= BUCKET_LIMIT and key not in self._buckets:
            self._buckets.clear()
        self._buckets[key] = (tokens - 1, now)
        return 0
