"""Asks, with a login that has a bot's rights and no process, whether it sees what is not its own. Changes nothing.

The canaries of migration 0007 are there to be seen: a database that shows the probe no other row, though there is one,
keeps bots apart. The rules of the catalogue are walked besides.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE
from botctl.handover import DatabaseLogin, DatabaseTarget
from botctl.storage import canaries, guard, logins
from botctl.storage.engine import connect
from botctl.storage.guard_rules import OPEN_TABLES
from botctl.storage.scram import new_password

_log = structlog.get_logger("botctl.control.canary")

PROBE_ID = 999_999_999_999_999_999
"""No bot of Telegram's has this id."""

PROBE_EVERY = 300.0
WALKED = frozenset({"row security", "policies", "rights on tables"})
"""Rules of the catalogue that concern rows; the others are for `botctl doctor`."""


class CanaryProbe:
    """`problem` says how bots are not kept apart; None while they are. `on_found` is told whenever that is new.

    `on_word` is given the digest of the word that stands in the canaries.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        target: DatabaseTarget,
        on_found: Callable[[str], None],
        on_word: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.problem: str | None = None
        self._engine = engine
        self._target = target
        self._on_found = on_found
        self._on_word = on_word
        self._password = ""

    async def run(self) -> None:
        """Look until cancelled. While the database is away there is nothing to look at."""
        while True:
            try:
                async with asyncio.timeout(30.0):
                    await self.look()
            except (*DATABASE_TROUBLE, asyncpg.PostgresError, TimeoutError) as error:
                _log.warning("canaries can't be looked for", error=type(error).__name__)
                await asyncio.sleep(5.0)
            else:
                await asyncio.sleep(PROBE_EVERY)

    async def look(self) -> None:
        """Look once. Raises what the database raises."""
        async with self._engine.connect() as connection:
            word = await canaries.word(connection)
        if self._on_word is not None:
            await self._on_word(hashlib.sha256(word.encode()).hexdigest() if word else "")
        found = await self._found()
        if not word:
            found = "; ".join(filter(None, ["the canaries are gone", found]))
        if found and found != self.problem:
            _log.error("bots are not kept apart in the database", found=found)
            self._on_found(found)
        elif self.problem is not None and not found:
            _log.info("bots are kept apart in the database again")
        self.problem = found or None

    async def _found(self) -> str:
        try:
            probe = await self._connect()
        except asyncpg.InvalidAuthorizationSpecificationError:
            self._password = ""  # somebody has changed it
            probe = await self._connect()
        try:
            seen = [table for table in sorted(OPEN_TABLES) if await _sees(probe, table)]
            broken = [str(breach) for breach in await guard.inspect(probe) if breach.rule in WALKED]
        finally:
            await probe.close()
        words = [f"a bot's login reads rows of others in {', '.join(seen)}"] if seen else []
        return "; ".join([*words, *broken[:5]])

    async def _connect(self) -> asyncpg.Connection[Any]:
        if not self._password:
            password = new_password()
            async with self._engine.begin() as connection:
                await logins.ensure_login(connection, PROBE_ID, password)
            self._password = password
        login = DatabaseLogin(target=self._target, user=f"bot_{PROBE_ID}", password=self._password)
        return await connect(login, {"application_name": "botctl probe"})


async def _sees(probe: asyncpg.Connection[Any], table: str) -> bool:
    return bool(await probe.fetchval(f"SELECT EXISTS (SELECT FROM {table} WHERE bot_id <> {PROBE_ID})"))
