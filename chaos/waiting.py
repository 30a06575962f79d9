"""Waiting for what must come about, with a bound. Never waits for a fixed time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

BACK_WITHIN = 60.0
"""Seconds within which a victim has to run and to have answered everything. Poison, quarantine and hangs included."""

POLL = 0.25


class LateError(Exception):
    """Something has not come about in time; the message says what."""


async def until(
    condition: Callable[[], Awaitable[Any]], what: str, timeout: float = BACK_WITHIN, every: float = POLL
) -> Any:
    """The condition's value as soon as it is true, asked for every so many seconds. Raises LateError."""
    deadline = time.monotonic() + timeout
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise LateError(f"not within {timeout:g} s: {what}")
        await asyncio.sleep(every)
    return value
