"""Bots that hold the database's connections, for threat detection: counted by uid, as the kernel tells.

PostgreSQL counts a login's connections once it has authenticated; a slot is taken from the first byte on. So whoever
opens many and never logs in takes all of them. Needs no database; judges nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from botctl.control.ports import FleetSight
from botctl.security.threat.observations import ConnectionHog, Observation
from botctl.storage.logins import CONNECTION_LIMIT

MOST = 32
"""Connections of one bot; its login may have 6. A handler in a hurry that is refused more of them stays below."""

OURS = 20
"""Connections that `control` and commands may have."""


class HogFeed:
    """Told at the second look on end: a burst that is over is none."""

    def __init__(self) -> None:
        self._before: frozenset[int] = frozenset()

    def suspicious(self, counts: Mapping[int, int]) -> bool:
        """Whether it is worth asking for the supervisor's sight; without a suspicion what was seen before is over."""
        if any(count > MOST for count in counts.values()):
            return True
        self._before = frozenset()
        return False

    def read(self, counts: Mapping[int, int], sight: FleetSight, now: float) -> list[Observation]:
        """`counts` are connections to the server's port by uid."""
        held = {bot.bot_id: (counts.get(bot.uid, 0), MOST) for bot in sight.bots if bot.uid}
        without = sum(bot.pid is not None and not bot.uid for bot in sight.bots)
        if without:  # theirs are the daemon's too
            held[0] = counts.get(os.geteuid(), 0), CONNECTION_LIMIT * without + OURS + MOST
        hogs = frozenset(bot_id for bot_id, (count, most) in held.items() if count > most)
        told, self._before = hogs & self._before, hogs
        return [
            ConnectionHog(at=now, bot_id=bot_id, count=held[bot_id][0], most=held[bot_id][1]) for bot_id in sorted(told)
        ]
