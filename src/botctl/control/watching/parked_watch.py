"""Looks after bots that take no updates, and warns long before Telegram drops what waits: log, event, status, metric.

Goes by what is stored (runs, and updates in the inbox), so that neither a new `control` nor a new daemon begins to
count anew. Never asks Telegram; the probe of hearing does, and tells what it was told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.ports import BotSight, SupervisorPort
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.control.watching.deafness import LISTENING
from botctl.control.watching.parked import THRESHOLDS, ParkedRule, Standing, event_of
from botctl.fleet import BotSpec
from botctl.storage.outbox import Outbox
from botctl.storage.runs import last_taken

_log = structlog.get_logger("botctl.control.watching.parked")

INTERVAL = 60.0


class ParkedWatch:
    """`pending` is what Telegram last said, by bot_id; `on_told` is called when there are events to relay."""

    def __init__(
        self,
        engine: AsyncEngine,
        bots: Callable[[], Sequence[BotSpec]],
        supervisor: SupervisorPort,
        pending: Mapping[int, int],
        on_told: Callable[[], None],
        *,
        thresholds: Sequence[float] = THRESHOLDS,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.rule = ParkedRule(thresholds)
        self._engine = engine
        self._bots = bots
        self._supervisor = supervisor
        self._pending = pending
        self._on_told = on_told
        self._interval = interval
        self._clock = clock
        self._taken: dict[int, float] = {}

    async def run(self) -> None:
        """Look now and then; never ends."""
        while True:
            try:
                await self.look()
            except TimeoutError:
                pass  # the supervisor is busy; the next look goes on
            except DATABASE_TROUBLE as error:
                _log.warning("whether bots are parked can't be told everybody", reason=database_reason(error))
            await asyncio.sleep(self._interval)

    async def look(self) -> None:
        """Look once. Raises TimeoutError, and what the database raises when something could not be read or told."""
        bots = [bot for bot in self._bots() if bot.enabled]
        sight = await self._supervisor.sight()
        trouble: Exception | None = None
        try:
            await self._read([bot.bot_id for bot in bots])
        except DATABASE_TROUBLE as error:
            trouble = error  # what was read before is still true, and the bots that run tell of themselves
        now = self._clock()
        standings = [
            _standing(bot, sight.bot(bot.bot_id), self._taken[bot.bot_id], self._pending.get(bot.bot_id), now)
            for bot in bots
            if bot.bot_id in self._taken
        ]
        news = self.rule.look(standings, now)
        for one in news:
            _log.warning("a bot is parked", bot=one.standing.name, state=one.standing.state, why=one.words)
        if news:
            try:
                async with self._engine.begin() as connection:
                    await Outbox(0).add(connection, [event_of(one, now) for one in news])
            except DATABASE_TROUBLE:
                for one in news:
                    self.rule.forget(one)
                raise
            self._on_told()
        if trouble is not None:
            raise trouble

    async def _read(self, bot_ids: Sequence[int]) -> None:
        for known in self._taken.keys() - set(bot_ids):
            del self._taken[known]
        async with self._engine.connect() as connection:
            for bot_id, at in (await last_taken(connection, bot_ids)).items():
                self._taken[bot_id] = max(at, self._taken.get(bot_id, 0.0))


def _standing(bot: BotSpec, sight: BotSight | None, taken_at: float, pending: int | None, now: float) -> Standing:
    if sight is None:
        return Standing(
            bot_id=bot.bot_id, name=bot.name, state="configured", reason="", taken_at=taken_at, pending=pending
        )
    age = sight.gauges.get("last_poll_age_s")
    if sight.state in LISTENING and age is not None and sight.heartbeat_age is not None:
        taken_at = max(taken_at, now - sight.heartbeat_age - age)
    return Standing(
        bot_id=bot.bot_id, name=bot.name, state=sight.state, reason=sight.reason, taken_at=taken_at, pending=pending
    )


def options_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """`thresholds` (seconds) from `parked_after` (hours), and tests' `interval`, as far as they are given."""
    found: dict[str, Any] = {}
    if hours := options.get("parked_after"):
        found["thresholds"] = tuple(float(one) * 3600 for one in hours)
    if interval := options.get("parked_interval"):
        found["interval"] = float(interval)
    return found
