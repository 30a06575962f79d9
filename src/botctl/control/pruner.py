"""Forgets what is done, so that tables don't grow for ever: relayed events after hours, inbox rows after weeks.

Never in anybody's way: one small transaction at a time with a rest between them, one bot after the other. What may go
and what must stay is in the database (`storage/pruning.py`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage import pruning
from botctl.storage.outbox import ALL

_log = structlog.get_logger("botctl.control.pruner")

OUTBOX_HOURS = 2.0
"""How long relayed events are kept: a Redis that began anew is given the last hour again (design §5), and one more."""

DONE_DAYS = 30.0
"""How long what is done is kept, with its sends and completions, for `botctl trace`."""

EVERY = 600.0
AT_ONCE = 2_000
"""Rows looked at in one transaction: some 20 ms on a slow disk."""

_UNNOTICED = 60.0
"""Seconds for which Redis may be away before that is known, and some more."""

REST = 0.05
"""Seconds between two transactions that have deleted something."""

Step = Callable[[AsyncConnection, int, float, int, int], Awaitable[pruning.Page]]


class Pruner:
    """`options`: `outbox_keep` in hours and `done_keep` in days, as the operator has set them.

    `redis_is_sound`: only then events are forgotten. Those of the hour before Redis went are needed when it is back.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        options: Mapping[str, Any],
        *,
        at_once: int = AT_ONCE,
        redis_is_sound: Callable[[], bool] = lambda: True,
    ) -> None:
        self.forgotten: dict[str, int] = {"outbox": 0, "inbox": 0, "sends": 0, "jobs": 0}
        """Rows that are gone since the process began."""
        self._engine = engine
        self._at_once = at_once
        self._redis_is_sound = redis_is_sound
        relayed = max(float(options.get("outbox_keep", OUTBOX_HOURS)) * 3600, ALL + _UNNOTICED)
        done = float(options.get("done_keep", DONE_DAYS)) * 86_400
        self._rules: tuple[tuple[str, Step, float], ...] = (
            ("outbox", pruning.prune_outbox, relayed),
            ("inbox", pruning.prune_inbox, done),
            ("sends", pruning.prune_outside, done),
            ("jobs", pruning.prune_jobs, done),
        )

    async def run(self) -> None:
        """Forget until cancelled; the database being away is waited out."""
        while True:
            began, before = time.monotonic(), sum(self.forgotten.values())
            try:
                await self.round()
            except DATABASE_TROUBLE as error:
                _log.warning("what is done can't be forgotten yet", reason=database_reason(error))
            if rows := sum(self.forgotten.values()) - before:
                _log.info("what is done was forgotten", rows=rows, seconds=round(time.monotonic() - began, 1))
            await asyncio.sleep(EVERY)

    async def round(self, *, rest: float = REST) -> None:
        """Once over all bots. Raises what the database raises."""
        async with self._engine.connect() as connection:
            bots = await pruning.bots_with_rows(connection)
        for bot_id in bots:
            for table, step, keep in self._rules:
                await self._forget(table, step, keep, bot_id, rest)

    async def _forget(self, table: str, step: Step, keep: float, bot_id: int, rest: float) -> None:
        after: int | None = 0
        while after is not None and (table != "outbox" or self._redis_is_sound()):
            async with self._engine.begin() as connection:
                page = await step(connection, bot_id, keep, after, self._at_once)
            self.forgotten[table] += page.pruned
            after = page.next
            if page.pruned:
                await asyncio.sleep(rest)
