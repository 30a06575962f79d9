"""A bot at its memory limit: it works on in a crippled state unless it says so, drains, and is started anew.

Tells a bot that is at its limit from an update that merely wanted too much at once: that fails alone.
"""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Callable
from typing import NoReturn

from botctl.bot.loading import place_of
from botctl.bot.vitals.own_memory import own_memory
from botctl.errors import BotctlError

SHARE = 0.8
"""Of the hard limit (RLIMIT_DATA); beyond it a MemoryError is the process's trouble, and not one update's."""


class ShortageError(BotctlError):
    """The process can get no more memory; only a new one helps."""


class Shortage:
    """Joins those who meet a MemoryError to the one who ends the bot. `used` and `limit` give bytes, 0 for no limit."""

    def __init__(self, used: Callable[[], int] | None = None, limit: Callable[[], int] | None = None) -> None:
        self._used = used or own_memory.data
        self._limit = limit or own_memory.data_limit
        self._met = asyncio.Event()
        self._detail = ""

    def met(self, error: BaseException) -> bool:
        """Judge an error; True when it means that the bot is at its limit and has to end."""
        if not isinstance(error, MemoryError):
            return False
        where = place_of(error)
        # What the failed attempt held is free now; what is still held is nobody's to give back.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        used, limit = self._used(), self._limit()
        if not limit or used < SHARE * limit:
            return False
        self._detail = self._detail or told(used, limit) + where
        self._met.set()
        return True

    async def watch(self) -> NoReturn:
        """Raises ShortageError as soon as the bot is known to be at its limit."""
        await self._met.wait()
        raise ShortageError(self._detail)


def told(used: int, limit: int) -> str:
    """How much of what limit, in words."""
    allowed = f", {limit / 1e6:.0f} MB allowed" if limit else ""
    return f"it could get no more memory: {used / 1e6:.0f} MB taken{allowed}"


def shortage_of(error: MemoryError) -> ShortageError:
    """A MemoryError that reached one of the bot's own tasks."""
    return ShortageError(told(own_memory.data(), own_memory.data_limit()) + place_of(error))
