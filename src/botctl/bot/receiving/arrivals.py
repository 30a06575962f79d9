"""Counts updates that others have stored for the bot, when the first attempt at them begins.

A bot that polls counts what it stores itself; of what Telegram sends to the ingress it sees only what it handles.
"""

from __future__ import annotations

from collections.abc import Callable

from botctl.bot.vitals.health import Health
from botctl.storage.inbox import InboxRow

_KEPT = 2000


class Arrivals:
    """`counts` is set for a bot with a webhook. `clock` is monotonic, in seconds."""

    def __init__(self, health: Health, clock: Callable[[], float]) -> None:
        self.counts = False
        self.last = clock()
        """When one was last seen; before that, when this began."""
        self._health = health
        self._clock = clock
        self._seen: dict[str, None] = {}

    def begins(self, row: InboxRow) -> None:
        """An attempt at this row begins."""
        if not self.counts or row.attempts or not row.cause.startswith("update:") or row.cause in self._seen:
            return
        self._seen[row.cause] = None
        if len(self._seen) > _KEPT:
            del self._seen[next(iter(self._seen))]
        self.last = self._clock()
        self._health.count("updates")
