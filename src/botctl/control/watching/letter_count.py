"""How many dead letters wait, by bot: counted now and then, so that status and metrics ask nothing of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage import deliveries

_log = structlog.get_logger("botctl.control.dead_letters")

EVERY = 15.0
"""Seconds. The counts read partial indexes that hold the dead ones only."""


class LetterCount:
    """`waiting` are those that wait for an operator, `ever` all there have been; or the last known."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.waiting: Mapping[int, int] = {}
        self.ever: Mapping[int, int] = {}
        self._engine = engine
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """An operator has retried or dropped some."""
        self._changed.set()

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self.count()
            except DATABASE_TROUBLE as error:
                _log.debug("dead letters can't be counted", reason=database_reason(error))
            try:
                async with asyncio.timeout(EVERY):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def count(self) -> None:
        """Count once. Raises what the database raises."""
        async with self._engine.connect() as connection:
            waiting = await deliveries.dead_letters(connection)
            ever = await deliveries.dead_letters_ever(connection)
        self.waiting, self.ever = waiting, ever
