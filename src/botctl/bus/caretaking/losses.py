"""Finds out what an out stream has lost before it was routed: a bot may trim its own stream as it appends. Pure.

The server counts what was ever added to a stream and what a group has read of it. Once all that is there is read, the
two differ by what was cut off unread.
"""

from __future__ import annotations

TELL_EVERY = 10.0
"""Seconds between two losses of a bot that are told: it may cut its stream as often as it likes."""

BEFORE = 5.0
"""Seconds before the last look that count as lost too: clocks of two servers, and a commit that took its time."""


class Losses:
    """By bot. Times in seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self._gaps: dict[int, int] = {}
        self._sound: dict[int, float] = {}
        """When nothing was missing that hasn't been told."""
        self._told: dict[int, float] = {}
        self._missing: dict[int, int] = {}

    def compare(self, bot_id: int, added: int, read: int, now: float) -> None:
        """An empty stream, all of whose entries have been read."""
        gap = added - read
        if gap > self._gaps.get(bot_id, gap):
            self.missing(bot_id, gap - self._gaps[bot_id])
        elif bot_id not in self._missing:
            self._sound[bot_id] = now
        self._gaps[bot_id] = gap

    def knows(self, bot_id: int) -> bool:
        """Whether there is something to compare with."""
        return bot_id in self._gaps

    def missing(self, bot_id: int, entries: int) -> None:
        """So many, at least, are gone."""
        self._missing[bot_id] = self._missing.get(bot_id, 0) + entries

    def begun_again(self, bot_id: int) -> None:
        """The stream is a new one, or was cut by ourselves: what it lacks isn't lost."""
        self._gaps.pop(bot_id, None)

    def take(self, now: float) -> list[tuple[int, int, float]]:
        """Bot, entries, and how many seconds back they may have been added; of losses whose time has come."""
        found: list[tuple[int, int, float]] = []
        for bot_id in [bot for bot in self._missing if now - self._told.get(bot, -TELL_EVERY) >= TELL_EVERY]:
            found.append((bot_id, self._missing.pop(bot_id), now - self._sound.get(bot_id, now) + BEFORE))
            self._told[bot_id] = self._sound[bot_id] = now
        return found
