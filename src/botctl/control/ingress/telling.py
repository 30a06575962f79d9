"""What whoever has a secret can make happen as often as they like is told once a minute, and how often it was. Pure."""

from __future__ import annotations

EVERY = 60.0
"""Seconds between two lines of the log about the same thing and the same bot."""


class Telling:
    """By bot and by what has happened; only bots that have shown a secret come here, so there are few."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._told: dict[tuple[int, str], tuple[float, int]] = {}

    def times(self, bot_id: int, what: str, now: float) -> int:
        """It has happened again: how often since it was told last, or 0 when it isn't to be told now."""
        told = self._told.get((bot_id, what))
        if told is not None and now - told[0] < self._every:
            self._told[bot_id, what] = (told[0], told[1] + 1)
            return 0
        self._told[bot_id, what] = (now, 0)
        return 1 if told is None else told[1] + 1
