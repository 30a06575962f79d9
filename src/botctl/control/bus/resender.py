"""Has events relayed again that went to a Redis which lost them: the outbox in PostgreSQL is the truth.

Consumers know an event by its id, so one that comes twice does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage.outbox import relay_again

_log = structlog.get_logger("botctl.control.bus.resender")

_TRY_AGAIN_AFTER = 1.0


class Resender:
    """`wake` is called when there may be something for the fleet's own relay; bots look by themselves."""

    def __init__(self, engine: AsyncEngine, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._wake = wake
        self._since: dict[int | None, float] = {}
        """From when on events may be lost, on the monotonic clock: those of a bot, or of all (None)."""
        self._asked = asyncio.Event()

    def lost(self, seconds: float, bot_id: int | None = None) -> None:
        """What was relayed within the last `seconds` may be lost: by this bot, or by all."""
        since = time.monotonic() - seconds
        self._since[bot_id] = min(since, self._since.get(bot_id, since))
        self._asked.set()

    async def run(self) -> None:
        """Work until cancelled; the database being away is waited out."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            lost, self._since = self._since, {}
            try:
                async with self._engine.begin() as connection:
                    rows = sum([await relay_again(connection, time.monotonic() - at, bot) for bot, at in lost.items()])
            except DATABASE_TROUBLE as error:
                _log.warning("events can't be relayed again yet", reason=database_reason(error))
                await asyncio.sleep(_TRY_AGAIN_AFTER)
                for bot, since in lost.items():
                    self.lost(time.monotonic() - since, bot)
            else:
                _log.info("events that redis may have lost are relayed again", events=rows)
                self._wake()
