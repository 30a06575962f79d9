"""Keeps the bot's readers of the bus going: one that breaks is told, and begins again.

A reader waits out Redis and the database by itself. What ends it all the same is a fault of ours, or a right that is
missing; nobody but the operator can mend that, so the bot says so for as long as it lasts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from botctl.bot.faults import brief
from botctl.bot.vitals.health import Health, Trouble
from botctl.bus.backoff import Backoff

_log = structlog.get_logger("botctl.bot.exchange.steady")

Work = Callable[[Callable[[], None]], Awaitable[None]]
"""A reader, to be run until cancelled; it calls what it is given whenever it has worked off what it had read."""


class Steady:
    """Of one bot. `first` and `limit` are the seconds between two beginnings, doubling."""

    def __init__(self, health: Health, *, first: float = 0.5, limit: float = 30.0) -> None:
        self._health = health
        self._first = first
        self._limit = limit
        self._faults: dict[str, str] = {}

    async def keep(self, what: str, work: Work, upon_break: Callable[[], None] = lambda: None) -> None:
        """Run it until cancelled. `upon_break` is called before it begins again: to give back what it had in hand."""
        backoff = Backoff(self._first, self._limit)

        def well() -> None:
            backoff.reset()
            if self._faults.pop(what, None) is not None:
                _log.info("a reader of the bus works again", reader=what)
                self._tell()

        while True:
            try:
                await work(well)
            except Exception as error:
                upon_break()
                self._faults[what] = f"{what} can't be worked off: {brief(error, 150)}"
                self._tell()
                _log.error("a reader of the bus broke; it begins again", reader=what, exc_info=error)
                await asyncio.sleep(backoff.next())

    def _tell(self) -> None:
        if self._faults:
            self._health.trouble(Trouble.BUS, f"{'; '.join(self._faults.values())}; what comes waits in Redis")
        else:
            self._health.well(Trouble.BUS)
