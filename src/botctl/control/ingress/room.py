"""How much may be on its way at once: requests, by bot and in all, and their bytes. Pure.

Telegram keeps at most `max_connections` requests of a bot under way; what is beyond is somebody else with its secret,
or more than can be stored. It is asked to come again (503), and keeps the update.
"""

from __future__ import annotations

from collections import Counter

MOST_OF_BOT = 120
"""Telegram's most is 100 for a bot."""
MOST = 2000
MOST_BYTES = 64 * 1024 * 1024
LARGEST = 1024 * 1024
"""Bytes of one update. The largest real ones have some ten thousand; messages have 4096 characters."""


class Room:
    """Counts what is let in until it is let out again."""

    def __init__(self, most: int = MOST, most_of_bot: int = MOST_OF_BOT, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_of_bot = most_of_bot
        self._most_bytes = most_bytes
        self._by_bot: Counter[int] = Counter()
        self.requests = 0
        """Under way now."""
        self.bytes = 0
        """Theirs."""

    def enter(self, bot_id: int, size: int) -> bool:
        """Whether there is room for one more request of this bot with a body of this size."""
        if self.requests >= self._most or self.bytes + size > self._most_bytes:
            return False
        if self._by_bot.get(bot_id, 0) >= self._most_of_bot:
            return False
        self._by_bot[bot_id] += 1
        self.requests += 1
        self.bytes += size
        return True

    def leave(self, bot_id: int, size: int) -> None:
        """It is done."""
        self._by_bot[bot_id] -= 1
        if not self._by_bot[bot_id]:
            del self._by_bot[bot_id]
        self.requests -= 1
        self.bytes -= size
