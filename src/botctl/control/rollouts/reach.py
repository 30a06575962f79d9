"""The supervisor as a rolling restart speaks to it: with patience, and with a pause between looks at the fleet.

It decides nothing. What the supervisor does not answer in time becomes a BotctlError here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

import structlog

from botctl.control.ports import FleetSight, GenerationsPort
from botctl.errors import BotctlError

_log = structlog.get_logger("botctl.control.rollouts.rules")

_POLL = 0.2
_POLL_A_BOT = 0.0005
"""Seconds between looks at the fleet, and more for a large one: each is the whole view."""

_PATIENCE = 30.0
"""Seconds that the supervisor may not answer."""

_T = TypeVar("_T")


class Reach:
    """Each method raises BotctlError when the supervisor does not answer."""

    def __init__(self, supervisor: GenerationsPort) -> None:
        self._supervisor = supervisor

    async def sight(self) -> FleetSight:
        """The view now."""
        return await _asked(self._supervisor.sight, patience=_PATIENCE)

    async def look(self) -> FleetSight:
        """The view, and then a pause."""
        sight = await self.sight()
        await asyncio.sleep(_POLL + _POLL_A_BOT * len(sight.bots))
        return sight

    async def generation(self, verb: str, number: int = 0) -> tuple[bool, str, int]:
        """Renew, promote or retire a generation of the forkserver."""
        return await _asked(lambda: self._supervisor.generation(verb, number))

    async def command(self, verb: str, name: str, reason: str) -> None:
        """A command for one bot. One that is refused has changed its state meanwhile; the next look tells."""
        ok, message = await _asked(lambda: self._supervisor.command(verb, name, reason))
        if not ok:
            _log.warning("command refused", verb=verb, bot=name, reason=message)

    def assign(self, bots: Iterable[int], generation: int, code: Mapping[int, str]) -> None:
        """What these bots start from (`GenerationsPort.assign`)."""
        self._supervisor.assign(bots, generation, code)


async def _asked(ask: Callable[[], Awaitable[_T]], *, patience: float = 0.0) -> _T:
    deadline = time.monotonic() + patience
    while True:
        try:
            return await ask()
        except TimeoutError as error:
            if time.monotonic() >= deadline:
                raise BotctlError("the supervisor does not answer") from error
