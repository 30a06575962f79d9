"""How much may be on its way at once: requests, by bot and in all, and bytes of theirs that have arrived. Pure.

Telegram keeps at most `max_connections` requests of a bot under way; what is beyond is somebody else with its secret,
or more than can be stored. It is asked to come again (503), and keeps the update.

One bot may have a part of what is free when it asks, so that something is always free for a bot that has nothing under
way, however many others take all they get (dynamic thresholds, Choudhury and Hahne 1998, as switches share their
buffers).
"""

from __future__ import annotations

from collections import Counter

MOST_OF_BOT = 120
"""Telegram's most is 100 for a bot."""
MOST = 2000
MOST_BYTES = 64 * 1024 * 1024
LARGEST = 1024 * 1024
"""Bytes of one update. The largest real ones have some ten thousand; messages have 4096 characters."""

_REQUESTS_OF_FREE = 4
_BYTES_OF_FREE = 8
"""One bot has under way at most a fourth and an eighth of what nobody has."""


class Room:
    """Counts what is let in until it is let out again."""

    def __init__(self, most: int = MOST, most_of_bot: int = MOST_OF_BOT, most_bytes: int = MOST_BYTES) -> None:
        self._most = most
        self._most_of_bot = most_of_bot
        self._most_bytes = most_bytes
        self._requests: Counter[int] = Counter()
        self._bytes: Counter[int] = Counter()
        self.requests = 0
        """Under way now."""
        self.bytes = 0
        """Of theirs, arrived and not yet done with."""

    def enter(self, bot_id: int) -> bool:
        """Whether there is room for one more request of this bot."""
        theirs = self._requests.get(bot_id, 0)
        free = self._most - self.requests
        if theirs >= self._most_of_bot or theirs * _REQUESTS_OF_FREE >= free:
            return False
        self._requests[bot_id] += 1
        self.requests += 1
        return True

    def arrive(self, bot_id: int, size: int) -> bool:
        """Whether there is room for so many more bytes of this bot, which have arrived."""
        theirs = self._bytes.get(bot_id, 0) + size
        if theirs * _BYTES_OF_FREE > self._most_bytes - self.bytes:
            return False
        self._bytes[bot_id] += size
        self.bytes += size
        return True

    def leave(self, bot_id: int, size: int) -> None:
        """A request is done, of which so many bytes had room."""
        self._requests[bot_id] -= 1
        self._bytes[bot_id] -= size
        self.requests -= 1
        self.bytes -= size
        if not self._requests[bot_id]:
            del self._requests[bot_id], self._bytes[bot_id]
