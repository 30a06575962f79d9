"""The heartbeat: from the bot's own event loop, so that a frozen loop is silent.

A bot that works beats once a second, an idle one every few seconds: in a fleet of hundreds the beats of the idle are
most of what the supervisor does. A change of health is told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from botctl.bot.database import Database
from botctl.bot.vitals.health import Health
from botctl.bot.vitals.own_memory import own_memory
from botctl.storage.inbox import Inbox
from botctl.storage.outbox import Outbox

BUSY_EVERY = 1.0
IDLE_EVERY = 3.0
BEATS_PER_TIMEOUT = 3
"""So many beats, at least, fit into the time after which a silent bot counts as hung."""

CLOSEST = 0.1
"""Seconds that two beats are apart at least, however often the health changes."""

_MEMORY_EVERY = 10.0
_DEPTH_EVERY = 5.0

Report = Callable[[dict[str, float]], None]


class Heartbeat:
    """`report` sends the gauges; `gauges` gives those that are known without asking anybody.

    `timeout` is the silence, in seconds, after which the supervisor takes the bot for hung, or for one that does not
    get ready and doesn't say why.

    `must_ask` says whether the depths in memory are not the whole truth, so that the database has to be asked.
    """

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        outbox: Outbox,
        health: Health,
        *,
        gauges: Callable[[], dict[str, float]],
        must_ask: Callable[[], bool],
        report: Report,
        timeout: float,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._outbox = outbox
        self._health = health
        self._gauges = gauges
        self._must_ask = must_ask
        self._report = report
        self._every = timeout / BEATS_PER_TIMEOUT
        self._counted: dict[str, float] = {}
        self._depths: dict[str, float] = {}
        self._memory: dict[str, float] = {}
        self._asking: asyncio.Task[None] | None = None
        self._ask_at = time.monotonic() + _DEPTH_EVERY  # not while it starts: that would be a second connection

    async def run(self) -> None:
        """Beat until cancelled."""
        measured = 0.0
        try:
            while True:
                self._see_to_depths()
                if time.monotonic() - measured >= _MEMORY_EVERY or not measured:
                    measured = time.monotonic()
                    self._memory = own_memory.gauges()
                gauges = {**self._gauges(), **self._depths, **self._memory}
                self._health.changed.clear()
                self._report(gauges)
                await asyncio.sleep(CLOSEST)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause(gauges) - CLOSEST):
                        await self._health.changed.wait()
        finally:
            if self._asking is not None:
                self._asking.cancel()

    def _pause(self, gauges: dict[str, float]) -> float:
        """Seconds to the next beat."""
        counted, self._counted = self._counted, dict(self._health.counters)
        idle = counted == self._counted and not gauges.get("inbox_depth") and not gauges.get("lanes")
        return max(min(IDLE_EVERY if idle else BUSY_EVERY, self._every), 2 * CLOSEST)

    def _see_to_depths(self) -> None:
        """Have the database asked, beside the beats: it may take its time to answer."""
        if not self._must_ask():
            self._depths = {}
            return
        now = time.monotonic()
        asking = self._asking is not None and not self._asking.done()
        if self._health.paused or asking or now < self._ask_at:
            return
        self._ask_at = now + _DEPTH_EVERY
        self._asking = asyncio.create_task(self._ask_depths(), name="depths")

    async def _ask_depths(self) -> None:
        self._depths = {
            "inbox_depth": float(await self._database.read(self._inbox.depth)),
            "outbox_depth": float(await self._database.read(self._outbox.depth)),
        }
