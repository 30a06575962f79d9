"""Turns to start: how many bots may be on their way up at once, so that a large fleet doesn't start in one stampede.

Pure: time is an argument. A turn ends when the bot has shown life, has ended, or has kept it for too long.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """`at_once` bots start at the same time; one that shows no life after `turn_timeout` seconds makes room."""

    at_once: int = 8
    turn_timeout: float = 5.0


class Turns:
    """First come, first served."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._waiting: dict[int, None] = {}
        self._taken: dict[int, float] = {}

    @property
    def waiting(self) -> int:
        """How many wait for a turn."""
        return len(self._waiting)

    @property
    def taken(self) -> int:
        """How many have a turn."""
        return len(self._taken)

    def queue(self) -> tuple[int, ...]:
        """Those who wait, in their order."""
        return tuple(self._waiting)

    def ask(self, key: int) -> None:
        """Queue up; harmless when queued already."""
        self._waiting[key] = None

    def leave(self, key: int) -> None:
        """It needs no turn any more, or has used it."""
        self._waiting.pop(key, None)
        self._taken.pop(key, None)

    def next(self, now: float) -> int | None:
        """Give the next turn, if there is one to give and somebody to take it."""
        if not self._waiting:
            return None
        if len(self._taken) >= self._pace.at_once:
            longest = min(self._taken, key=self._taken.__getitem__)
            if now - self._taken[longest] < self._pace.turn_timeout:
                return None
            del self._taken[longest]
        key = next(iter(self._waiting))
        del self._waiting[key]
        self._taken[key] = now
        return key

    def next_look(self) -> float | None:
        """When a turn times out for which somebody waits."""
        if not self._waiting or not self._taken:
            return None
        return min(self._taken.values()) + self._pace.turn_timeout
