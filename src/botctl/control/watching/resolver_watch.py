"""Restarts bots that can't look up names any more, because the system's resolver files have been replaced.

A bot that Landlock confines may read the files that were there when it began. An editor or a network manager that puts
a new file in their place takes them from it; a restart gives it the new ones. Changes in place need none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence

import structlog

from botctl.control.ports import BotSight, SupervisorPort

_log = structlog.get_logger("botctl.control.resolver")

FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
CONFINED = ("uid", "landlock")
INTERVAL = 15.0
APART = 0.5
"""Seconds between two restarts; the supervisor has its own turns for starts."""

Identity = tuple[int, int] | None


class ResolverWatch:
    """`run` never ends."""

    def __init__(self, supervisor: SupervisorPort, files: Sequence[str] = FILES, *, interval: float = INTERVAL) -> None:
        self._supervisor = supervisor
        self._interval = interval
        self._known = {file: _identity(file) for file in files}
        self._replaced: dict[str, float] = {}

    async def run(self) -> None:
        """Look now and then."""
        while True:
            await asyncio.sleep(self._interval)
            with contextlib.suppress(TimeoutError):  # the supervisor is busy; the next look goes on
                await self.look()

    async def look(self) -> None:
        """Restart whoever began before a file was replaced. Raises TimeoutError when the supervisor doesn't answer."""
        for file, known in self._known.items():
            if (now := _identity(file)) != known and now is not None:
                self._known[file] = now
                self._replaced[file] = time.time()
        for file, at in list(self._replaced.items()):
            sight = await self._supervisor.sight()
            stale = [bot for bot in sight.bots if _is_stale(bot, at)]
            if stale:
                _log.warning("bots are restarted, to read a file that was replaced", file=file, bots=len(stale))
            for bot in stale:
                await self._supervisor.command("restart", bot.name, f"{file} was replaced")
                await asyncio.sleep(APART)
            del self._replaced[file]


def _is_stale(bot: BotSight, at: float) -> bool:
    began_before = bot.started_at is not None and bot.started_at < at
    return bot.wanted and bot.pid is not None and bot.isolation in CONFINED and began_before


def _identity(file: str) -> Identity:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino
