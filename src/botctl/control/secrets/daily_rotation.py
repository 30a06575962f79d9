"""New passwords for every bot once a day, a few bots at a time, while they run. What fails is done at the next look."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from botctl.control.fleet.keeper import FleetKeeper
from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.control.credentials")

EVERY = 86_400.0
"""Seconds for which passwords are used (design §4.2)."""

LOOK_EVERY = 60.0
BATCH = 50
"""Bots at a time: commands wait meanwhile, half a second and some milliseconds for each bot."""


class CredentialRotation:
    """`now` gives seconds since the epoch."""

    def __init__(self, keeper: FleetKeeper, *, every: float = EVERY, now: Callable[[], float] = time.time) -> None:
        self._keeper = keeper
        self._every = every
        self._now = now

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not await self.look():
                await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> int:
        """Rotate what is due, at most a batch; how many have got new ones."""
        keeper = self._keeper
        if not keeper.credentials.loaded or keeper.fleet is None:
            return 0
        wanted = {bot.bot_id for bot in keeper.fleet.bots}
        due = [one for one in keeper.credentials.older_than(self._now() - self._every) if one in wanted][:BATCH]
        if not due:
            return 0
        try:
            failed = await keeper.renew_credentials(due)
        except BotctlError as error:
            _log.warning("credentials can't be rotated now", bots=len(due), reason=error.message)
            return 0
        _log.info("credentials rotated", bots=len(due) - len(failed), failed=sorted(failed))
        return len(due) - len(failed)
