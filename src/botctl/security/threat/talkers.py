"""Who sends how much: counts of updates by user, a minute at a time, in bounded room. Pure: time is an argument.

Tells of the most talkative of the last whole minute, as gauges of the heartbeat; judges nobody.
"""

from __future__ import annotations

import heapq

WINDOW = 60.0
MOST_USERS = 2000
"""Users that are counted in a minute. One who floods is among the first to come, or comes again and again: each new one
beyond takes the place of somebody who has sent as little as anybody."""

TOLD = 3
LEAST = 30
"""Updates a minute below which nobody is told of."""

PREFIX = "user:"
"""Of a gauge; the user's id follows."""

TOTAL = "user_updates"
"""Of the gauge with the updates of all users; it stands there while anybody is told of."""

NUMBER = "user_minute"
"""Of the gauge with the number of the minute, by which two looks at the same one are known."""


class Talkers:
    """`clock` of its methods is monotonic, in seconds."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._number = 0
        self._counts: dict[int, int] = {}
        self._total = 0
        self._told: dict[str, float] = {}

    def saw(self, user_id: int | None, clock: float) -> None:
        """An update of this user has come."""
        if user_id is None:
            return
        self._turn(clock)
        self._total += 1
        count = self._counts.get(user_id, 0)
        if not count and len(self._counts) >= MOST_USERS:
            del self._counts[min(self._counts, key=self._counts.__getitem__)]
        self._counts[user_id] = count + 1

    def gauges(self, clock: float) -> dict[str, float]:
        """Of the last whole minute; empty when nobody was talkative."""
        self._turn(clock)
        return self._told

    def _turn(self, clock: float) -> None:
        if self._began is None:
            self._began = clock
        passed = clock - self._began
        if passed < WINDOW:
            return
        top = heapq.nlargest(TOLD, self._counts.items(), key=lambda one: one[1])
        loud = {f"{PREFIX}{user_id}": float(count) for user_id, count in top if count >= LEAST}
        self._number += 1
        # After a pause the minute that is over is of long ago.
        recent = loud and passed < 2 * WINDOW
        self._told = {**loud, TOTAL: float(self._total), NUMBER: float(self._number)} if recent else {}
        self._began, self._counts, self._total = clock - passed % WINDOW, {}, 0
