"""Wakes bots when something was put into their inboxes. Never waits, and tells each bot a few times a second at most.

Put rows in, commit, then `wake`: the bot finds all that was committed by then. A bot that does not run, or does not
listen, finds it when it starts, or when it looks by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

CLOSEST = 0.02
"""Seconds between two messages to the same bot; calls in between are answered by one at their end."""


class Waker:
    """`send` tells the supervisor."""

    def __init__(self, send: Callable[[int], None], closest: float = CLOSEST) -> None:
        self._send = send
        self._closest = closest
        self._resting: dict[int, bool] = {}
        """Bots that were told lately, and whether they are to be told once more."""

    def wake(self, bot_id: int) -> None:
        """Have the bot look into its inbox. Call it from the event loop."""
        if bot_id in self._resting:
            self._resting[bot_id] = True
            return
        self._tell(bot_id)

    def _tell(self, bot_id: int) -> None:
        self._resting[bot_id] = False
        asyncio.get_running_loop().call_later(self._closest, self._rested, bot_id)
        self._send(bot_id)

    def _rested(self, bot_id: int) -> None:
        if self._resting.pop(bot_id):
            self._tell(bot_id)
