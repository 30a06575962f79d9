"""How long calls wait after Telegram has failed, and who is let go on as soon as it answers again.

Each call has a backoff of its own, so that one that hangs holds up no other. But the first that Telegram answers tells
all that wait, and they go on through flood control, in turn. Never makes a call itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from botctl.bus.backoff import Backoff

SOON = 5.0
"""Seconds between two tries of one call in its first minute of trouble, at most: in one chat alone nobody else asks."""
LATER = 15.0
LONGEST = 30.0
_FIRST_MINUTE = 60.0
_EACH = 0.2
"""Seconds for each call that waits: so all of a bot's together are made at most some seven times a second."""

HEED_AFTER = 1.0
"""Seconds that a call waits before it heeds that Telegram answers others, unless its backoff is shorter; twice as long
each time that it fails all the same: what it is refused for is its own."""


def longest(waiting: int, failing_for: float) -> float:
    """The limit of a call's backoff, in seconds, when so many wait and it has failed for so long. Pure."""
    return min(LONGEST, max(SOON if failing_for < _FIRST_MINUTE else LATER, waiting * _EACH))


class Outage:
    """Of one bot, shared by all its calls. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers = 0
        self._answered = asyncio.Event()
        self.waiting = 0
        """Calls that wait now."""

    def answered(self) -> None:
        """Telegram has answered a call, if only to refuse it."""
        if self.waiting:
            self._answers += 1
            self._answered.set()
            self._answered = asyncio.Event()

    def patience(self, most: float = LONGEST) -> Patience:
        """Of one call, which waits at most so many seconds between two tries."""
        return Patience(self, most)

    async def pause(self, delay: float, heed_after: float) -> bool:
        """Wait for `delay` seconds, or from `heed_after` seconds on until Telegram answers others; whether it has."""
        answers = self._answers
        self.waiting += 1
        try:
            await asyncio.sleep(min(delay, heed_after))
            if delay <= heed_after:
                return False
            async with asyncio.timeout(delay - heed_after):
                while self._answers == answers:
                    await self._answered.wait()
            return True
        except TimeoutError:
            return False
        finally:
            self.waiting -= 1

    def now(self) -> float:
        """By the clock."""
        return self._clock()


class Patience:
    """What one call knows of its own failures."""

    def __init__(self, outage: Outage, most: float) -> None:
        self._outage = outage
        self._most = most
        self._backoff = Backoff(first=0.1, limit=SOON)
        self._since: float | None = None
        self._in_vain = 0

    async def pause(self) -> None:
        """It has failed: wait before it is made again."""
        now = self._outage.now()
        self._since = now if self._since is None else self._since
        self._backoff.limit = min(self._most, longest(self._outage.waiting + 1, now - self._since))
        if await self._outage.pause(self._backoff.next(), HEED_AFTER * 2.0**self._in_vain):
            self._in_vain = min(self._in_vain + 1, 10)
