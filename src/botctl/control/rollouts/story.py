"""What a rolling restart says, line by line, to whoever listens: from the first line, however late they come.

It neither decides nor does anything.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import structlog

from botctl.control.views import RolloutLine

_log = structlog.get_logger("botctl.control.rollouts.rules")

_NAMED = 6
"""Names in a line; the others are counted."""


class Story:
    """`lines` are what was said; it is `over` with the line that has an outcome."""

    def __init__(self) -> None:
        self.lines: list[RolloutLine] = []
        self.over = False
        self._news = asyncio.Condition()

    async def say(self, text: str, *, warning: bool = False, outcome: str | None = None) -> None:
        """Add a line."""
        _log.info("rollout", says=text)
        async with self._news:
            self.lines.append(RolloutLine(at=time.time(), text=text, warning=warning, outcome=outcome))
            self.over = outcome is not None
            self._news.notify_all()

    async def follow(self) -> AsyncIterator[RolloutLine]:
        """Every line, from the first one, until it is over."""
        told = 0

        def has_news() -> bool:
            return self.over or len(self.lines) > told

        while not self.over or told < len(self.lines):
            async with self._news:
                await self._news.wait_for(has_news)
            for line in self.lines[told:]:
                told += 1
                yield line


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def bots(count: int) -> str:
    """So many bots, in words."""
    return "1 bot" if count == 1 else f"{count} bots"
