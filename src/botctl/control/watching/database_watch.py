"""Looks after the database while the daemon runs: is it there, does a bot's transaction last too long, has a bot
changed its own login, partitions, runs of long ago."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage import audit, logins, once, runs

_log = structlog.get_logger("botctl.control.watching.database_watch")

CHECK_EVERY = 2.0
TIDY_EVERY = 3600.0
BLIND_EVERY = 300.0
"""How often passwords are set anew that can't be compared, because the administrator is no superuser."""

LONGEST_TRANSACTION = timedelta(seconds=60)
"""A bot's transactions take milliseconds; one this old, idle or not, holds locks that nobody is coming back for."""


class DatabaseWatch:
    """`problem` is None while the database answers. `on_mended` is told which bots had changed their own logins."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        longest: timedelta = LONGEST_TRANSACTION,
        on_mended: Callable[[list[int]], None] | None = None,
    ) -> None:
        self._on_mended = on_mended
        self.problem: str | None = "database: not looked at yet"
        self._engine = engine
        self._longest = longest

    async def run(self) -> None:
        """Check until cancelled."""
        tidy_at = blind_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(10.0):
                    await self.check(tidy=loop.time() >= tidy_at, blindly=loop.time() >= blind_at)
            except DATABASE_TROUBLE as error:
                told = f"database: {database_reason(error)}"
                if told != self.problem:
                    _log.warning("the database can't be used", reason=told)
                self.problem = told
            else:
                if self.problem is not None:
                    _log.info("the database answers")
                self.problem = None
                if loop.time() >= tidy_at:
                    tidy_at = loop.time() + TIDY_EVERY
                if loop.time() >= blind_at:
                    blind_at = loop.time() + BLIND_EVERY
            await asyncio.sleep(CHECK_EVERY)

    async def check(self, *, tidy: bool, blindly: bool = False) -> None:
        """One round. Raises what the database raises."""
        async with self._engine.begin() as connection:
            ended = await logins.end_long_transactions(connection, self._longest)
            if tidy:
                await audit.ensure_partitions(connection)
                await logins.close_readers(connection)
                await runs.prune_runs(connection)
                await once.prune(connection)
        if ended:
            _log.warning("transactions that lasted too long were ended", sessions=ended, longest=str(self._longest))
        await self._mend(blindly)

    async def _mend(self, blindly: bool) -> None:
        async with self._engine.begin() as connection:
            mended = await logins.mend_logins(connection, blindly=blindly)
        if not mended:
            return
        _log.warning("bots had changed their own logins; they were put back", bot_ids=mended)
        if self._on_mended is not None:
            self._on_mended(mended)
        async with self._engine.begin() as connection:
            for bot_id in mended:
                await logins.end_sessions(connection, bot_id)
