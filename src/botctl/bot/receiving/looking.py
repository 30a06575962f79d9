"""Looks into the inbox for what others have put there: when it is told to, and once in a while by itself.

Never reads anything itself; it decides when somebody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from botctl.bot.faults import brief

_log = structlog.get_logger("botctl.bot.receiving.looking")

EVERY = 30.0
"""Seconds between two looks that nobody asked for."""

AFTER_FAULT = 1.0
"""Seconds to the next look when one has failed."""

SHARE = 0.1
"""Of the time, at most, is spent looking, however often it is told to: behind a long backlog a look is dear."""


class Looking:
    """`look` finds all that was committed before it was called. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        look: Callable[[], Awaitable[None]],
        clock: Callable[[], float],
        every: float = EVERY,
        after_fault: float = AFTER_FAULT,
    ) -> None:
        self._look = look
        self._clock = clock
        self._every = every
        self._after_fault = after_fault
        self._told = asyncio.Event()

    def wake(self) -> None:
        """There is something to be found; many calls are one."""
        self._told.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._every):
                    await self._told.wait()
            except TimeoutError:
                pass
            self._told.clear()
            began, rest = self._clock(), 0.0
            try:
                await self._look()
            except Exception as error:
                _log.error("the inbox could not be looked into; the next look comes soon", error=brief(error))
                self._told.set()  # what it was told of is not found yet
                rest = self._after_fault
            took = self._clock() - began
            await asyncio.sleep(min(max(took / SHARE - took, rest), self._every))
