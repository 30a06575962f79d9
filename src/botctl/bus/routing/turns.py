"""Whose stream is read next, and how much of it: no bot keeps the router from the others. Pure but for the warnings.

What waits stays in its out stream.
"""

from __future__ import annotations

from botctl.bus.routing.allowance import Allowance
from botctl.bus.routing.complaints import Complaints
from botctl.bus.routing.portions import Portions
from botctl.bus.routing.pressure import Pressure

STREAMS_A_ROUND = 16


class Turns:
    """The fleet's own stream, 0, never waits."""

    def __init__(self, allowance: Allowance, pressure: Pressure, complaints: Complaints) -> None:
        self.allowance = allowance
        self.portions = Portions()
        self.held: set[int] = set()
        """Bots whose events wait until others have read."""
        self._pressure = pressure
        self._complaints = complaints

    def take(self, ready: dict[int, None]) -> list[int]:
        """Of these the ones that have waited longest: a flooding bot waits its turn behind the others.

        One that has used up its allowance waits for the next sweep, one that fills another's mailbox for its reader.
        """
        for bot_id in [bot for bot in ready if bot and self.allowance.exhausted(bot)]:
            del ready[bot_id]
            self._complaints.warn(bot_id, "bot publishes more than it may; its events have to wait")
        chosen: list[int] = []
        for bot_id in list(ready):
            if len(chosen) == STREAMS_A_ROUND:
                break
            del ready[bot_id]
            if bot_id and self._pressure.room(bot_id) == 0:
                self.held.add(bot_id)
                self._complaints.warn(bot_id, "bot fills mailboxes faster than others read; its events have to wait")
            else:
                chosen.append(bot_id)
        return chosen

    def count(self, bot_id: int) -> int:
        """Entries to ask for of this bot's stream."""
        count, room = self.portions.count(bot_id), self._pressure.room(bot_id) if bot_id else None
        return count if room is None else max(1, min(count, room))
