"""The bot's door to PostgreSQL: work is repeated until the database has done it.

Whatever runs here must be idempotent: when the connection is lost during a commit, nobody knows whether it took place,
and the work is done once more. While the database is away, everybody waits here, and one prober looks for its return.
While its disk is full it answers a prober: the work that was refused is tried on, and everybody else waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.bot.faults import brief, database_away, disk_full, retry_soon
from botctl.bot.group_commit import GroupCommit
from botctl.bot.tasks import end, stay_in
from botctl.bot.vitals.health import Health, Trouble
from botctl.bus.backoff import Backoff
from botctl.storage.direct import Ask

_T = TypeVar("_T")
Work = Callable[[AsyncConnection], Awaitable[_T]]

_log = structlog.get_logger("botctl.bot.database")

REFUSAL_TOLD_AFTER = 3.0
"""Seconds of refusals (deadlocks, timeouts, no free connection) after which they are told as trouble."""


class Database:
    """Runs work in transactions, or as single statements that commit by themselves."""

    def __init__(
        self,
        engine: AsyncEngine,
        health: Health,
        *,
        clock: Callable[[], float],
        for_handlers: Callable[[], AsyncEngine] | None = None,
    ) -> None:
        self._engine = engine
        self._single = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._groups = GroupCommit(engine)
        self._health = health
        self._clock = clock
        self._make_for_handlers = for_handlers
        self._for_handlers: AsyncEngine | None = None
        self._struggling = 0
        self._open = asyncio.Event()
        self._prober: asyncio.Task[None] | None = None
        self._home: asyncio.AbstractEventLoop | None = None

    @property
    def handlers_engine(self) -> AsyncEngine:
        """For handlers that need the bot's own rows; what goes wrong there is theirs.

        Its connections are not ours: a handler may hold one while it sends, and the journal needs one then.
        """
        if self._for_handlers is None:
            self._for_handlers = self._make_for_handlers() if self._make_for_handlers is not None else self._engine
        return self._for_handlers

    async def first(self) -> None:
        """The first act of an incarnation, before which nobody gets in: end what an earlier one left running."""
        self._home = asyncio.get_running_loop()
        backoff = Backoff(first=0.02, limit=1.0)
        while True:
            try:
                async with self._single.connect() as connection:
                    await connection.exec_driver_sql("SELECT botctl_end_my_others()")
            except Exception as error:
                if not (database_away(error) or retry_soon(error)):
                    raise
                self._health.trouble(Trouble.DATABASE, _words(error))
                _log.warning("database can't be reached", error=brief(error))
                await asyncio.sleep(backoff.next())
            else:
                self._health.well(Trouble.DATABASE)
                self._open.set()
                return

    async def transaction(self, work: Work[_T], *, first: Ask | None = None) -> _T:
        """Do the work in one transaction and commit it. Raises only what is the work's own fault.

        `first`: what the work asks first of all; what several ask at the same time is one round trip.
        """
        return await self._repeat(partial(self._grouped, first=first), work)

    async def statement(self, work: Work[_T]) -> _T:
        """Do work that is one statement: alone it commits by itself, which saves two round trips."""
        return await self._repeat(self._one, work)

    async def urgent(self, work: Work[_T]) -> _T:
        """As `statement`, before all that waits: for what somebody outside waits for."""
        return await self._repeat(self._next, work)

    async def read(self, work: Work[_T]) -> _T:
        """Do work that only reads, and perhaps much: nobody's commit waits for it."""
        return await self._repeat(self._apart, work)

    async def attempt(self, work: Work[_T]) -> _T:
        """One transaction, tried once; for those who have their own way of waiting."""
        return await self._in_transaction(work)

    async def close(self) -> None:
        """Give up the prober and all connections."""
        if self._prober is not None:
            await end([self._prober])
        await self._groups.close()
        await self._engine.dispose()
        if self._for_handlers is not None:
            await self._for_handlers.dispose()

    async def _repeat(self, run: Callable[[Work[_T]], Awaitable[_T]], work: Work[_T]) -> _T:
        stay_in(self._home)  # A group commit is of several: none of them may wreck the others' connections.
        backoff = Backoff(first=0.01, limit=1.0)
        refused_since: float | None = None
        reported = False
        leads = False
        try:
            while True:
                if not leads:
                    await self._open.wait()
                began = self._clock()
                try:
                    return await run(work)
                except Exception as error:
                    if leads and database_away(error):
                        self._health.trouble(Trouble.DATABASE, _words(error))
                        await asyncio.sleep(backoff.next())
                        continue
                    if disk_full(error):
                        leads = self._without_room(error)
                        continue
                    if database_away(error):
                        self._lost(error)
                        continue
                    if not retry_soon(error):
                        raise
                    refused_since = began if refused_since is None else refused_since
                    if not reported and self._clock() - refused_since >= REFUSAL_TOLD_AFTER:
                        reported = True
                        self._struggle(error)
                await asyncio.sleep(backoff.next())
        finally:
            if leads:
                self._back()
            if reported:
                self._struggling -= 1
                if not self._struggling:
                    self._health.well(Trouble.CONGESTION)

    def _struggle(self, error: BaseException) -> None:
        self._struggling += 1
        self._health.trouble(Trouble.CONGESTION, "the database keeps refusing work")
        _log.warning("the database keeps refusing work; trying on", error=brief(error))

    async def _grouped(self, work: Work[_T], *, first: Ask | None = None) -> _T:
        return await self._groups.run(work, first=first)

    async def _next(self, work: Work[_T]) -> _T:
        return await self._groups.run(work, single=True, urgent=True)

    async def _one(self, work: Work[_T]) -> _T:
        return await self._groups.run(work, single=True)

    async def _in_transaction(self, work: Work[_T]) -> _T:
        async with self._engine.begin() as connection:
            return await work(connection)

    async def _apart(self, work: Work[_T]) -> _T:
        return await self._groups.run(work, apart=True)

    def _lost(self, error: BaseException) -> None:
        if self._open.is_set():
            self._open.clear()
            self._health.trouble(Trouble.DATABASE, _words(error))
            _log.warning("database is away; all work waits for it", error=brief(error))
            self._prober = asyncio.create_task(self._probe(), name="database-probe")

    def _without_room(self, error: BaseException) -> bool:
        """Everybody waits for whoever found it first. False for those who come later."""
        if not self._open.is_set():
            return False
        self._open.clear()
        self._health.trouble(Trouble.DATABASE, _words(error))
        _log.warning("the database has no room; all work waits for it", error=brief(error))
        return True

    def _back(self) -> None:
        self._health.well(Trouble.DATABASE)
        _log.info("database is back")
        self._open.set()

    async def _probe(self) -> None:
        backoff = Backoff(first=0.05, limit=1.0)
        while True:
            await asyncio.sleep(backoff.next())
            try:
                async with asyncio.timeout(10), self._single.connect() as connection:
                    result = await connection.exec_driver_sql("SELECT current_setting('transaction_read_only')")
                    writable = result.scalar_one() == "off"
            except Exception as error:
                if not database_away(error):
                    _log.warning("database refuses", error=brief(error))
            else:
                if writable:
                    break
                # New connections may lead to the server that has taken over.
                await self._engine.dispose()
        self._back()


def _words(error: BaseException) -> str:
    return "the database's disk is full" if disk_full(error) else "the database is away"
