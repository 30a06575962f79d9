"""Publishes what happens to the fleet as a whole, as `story.py` has it; waits while the database is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.fleet.story import FleetStory
from botctl.control.ports import SupervisorPort
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage.outbox import Outbox, StoredEvent

_log = structlog.get_logger("botctl.control.fleet.teller")

LOOK_EVERY = 2.0
"""Seconds between two looks at the supervisor's view."""


class FleetTeller:
    """`bots` gives how many are wanted; `wake` is called when there is something for the fleet's relay."""

    def __init__(
        self,
        engine: AsyncEngine,
        supervisor: SupervisorPort,
        version: str,
        bots: Callable[[], int],
        wake: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._supervisor = supervisor
        self._story = FleetStory(version)
        self._bots = bots
        self._wake = wake
        self._outbox = Outbox(0)
        self._waiting: list[StoredEvent] = []

    async def run(self) -> None:
        """Look and publish until cancelled."""
        while True:
            try:
                await self.look()
            except DATABASE_TROUBLE as error:
                if self._waiting:  # else it is the supervisor that has other things to do
                    _log.warning("events of the fleet wait", waiting=len(self._waiting), reason=database_reason(error))
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """One look; what is new is published. Raises TimeoutError, or what the database raises: nothing is lost."""
        self._waiting += self._story.look(await self._supervisor.sight(), self._bots(), time.time())
        if self._waiting:
            async with self._engine.begin() as connection:
                await self._outbox.add(connection, self._waiting)
            self._waiting = []
            self._wake()
