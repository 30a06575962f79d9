"""Waiting in tests: for a condition, with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 20.0


async def until(condition: Callable[[], Awaitable[Any]], what: str = "", patience: float = PATIENCE) -> Any:
    """The first true value the condition gives."""
    deadline = time.monotonic() + patience
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"did not come true in {patience:g} s: {what}"
        await asyncio.sleep(0.02)
