"""Tells how a bot's incarnations ended: from the database, and from the file for what the database has not.

Works without the database; then it says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.fleet.death_file import read_deaths
from botctl.control.fleet.history import DAY, from_database, late_ends, tell_from_file
from botctl.control.fleet.lifecycle import ending
from botctl.control.ports import Transition
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.control.views import BotView, DeathBody, DeathsBody
from botctl.errors import NoSuchBotError
from botctl.storage import registry, runs

_log = structlog.get_logger("botctl.control.fleet.history")

_DATABASE_TIMEOUT = 3.0


class Historian:
    """`logs` is the folder of the file; `waiting` gives the deaths that are still to be stored."""

    def __init__(
        self, engine: AsyncEngine, logs: Path, waiting: Callable[[], Sequence[Transition]] = lambda: ()
    ) -> None:
        self._engine = engine
        self._logs = logs
        self._waiting = waiting

    async def tell(
        self, name: str, bot_id: int | None, bot: BotView | None, *, limit: int, planned: bool
    ) -> DeathsBody:
        """The latest deaths of one bot; those that were asked for only with `planned`.

        A bot that is not in the fleet has no `bot_id`. Raises NoSuchBotError when nobody has ever heard of it.
        """
        waiting = self._waiting()  # before the database is asked: what it stores meanwhile is told once
        filed, notes = await self._filed()
        body = DeathsBody(name=name, bot=bot, notes=notes)
        stored: list[DeathBody] = []
        asked = False
        try:
            async with asyncio.timeout(_DATABASE_TIMEOUT), self._engine.connect() as connection:
                if bot_id is None:
                    bot_id = await registry.find_bot(connection, name)
                if bot_id is not None:
                    stored = await self._stored(connection, bot_id, body, limit, planned)
                asked = True
        except DATABASE_TROUBLE as error:
            body.notes.append(
                f"the database can't be used ({database_reason(error)}): told from {self._logs}/deaths.log"
            )
        if bot_id is None:
            bot_id = next((death.bot_id for death in (*waiting, *filed) if death.name == name), None)
        if bot_id is None:
            raise NoSuchBotError(f"no bot is called {name!r}")
        mine = [death for death in filed if death.bot_id == bot_id]
        late = [death for death in waiting if death.bot_id == bot_id]
        tell_from_file(body, mine, stored, limit, planned, now=time.time(), waiting=late)
        if not asked:
            body.since = filed[-1].at if filed else None
        return body

    async def close_old_runs(self, before: float) -> None:
        """Close the runs of an earlier daemon: as the file tells their end, else as nobody knows.

        Raises what the database raises.
        """
        filed, _ = await self._filed()
        async with self._engine.begin() as connection:
            ends = late_ends(await runs.open_runs(connection, before), filed)
            for end in ends:
                death = end.death
                await runs.close_late(
                    connection, end.run, at=death.at, seq=death.seq, pid=death.pid, ending=ending(death)
                )
            abandoned = await runs.abandon_runs(connection, before)
        if ends or abandoned:
            _log.warning("runs of an earlier daemon were closed", from_the_file=len(ends), unexplained=abandoned)

    async def _filed(self) -> tuple[list[Transition], list[str]]:
        try:
            return await asyncio.to_thread(read_deaths, self._logs), []
        except OSError as error:
            return [], [f"the file {error.filename} can't be read: {error.strerror}"]

    @staticmethod
    async def _stored(
        connection: AsyncConnection, bot_id: int, body: DeathsBody, limit: int, planned: bool
    ) -> list[DeathBody]:
        body.failures_24h = await runs.failures_since(connection, bot_id, time.time() - DAY)
        body.since = await runs.first_run_at(connection, bot_id)
        for death in await runs.deaths(connection, bot_id, 1, planned=True):
            body.last_end = from_database(death)
        return [from_database(death) for death in await runs.deaths(connection, bot_id, limit, planned=planned)]
