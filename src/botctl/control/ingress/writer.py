"""Stores updates: what has come meanwhile, of all bots, in one commit after another.

One transaction at a time, so that what is committed later has higher numbers; within one, the updates of a bot in the
order of their ids. Never says that something is stored before it is committed, and never keeps what it can't store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, database_reason, is_hopeless
from botctl.storage.inbox import NewRow, columns_of, harmless, insert_of
from botctl.storage.sealing import Sealing

_log = structlog.get_logger("botctl.control.ingress")

MOST_AT_ONCE = 200
"""Rows of one commit."""

PATIENCE = 10.0
"""Seconds for one commit; a database that needs longer is as good as away, and Telegram comes again."""


class Outcome(Enum):
    """What came of storing an update."""

    STORED = auto()
    KNOWN = auto()
    """It was there already."""
    AWAY = auto()
    """Nobody knows; it may come again."""


@dataclass(slots=True)
class Waiting:
    """An update, and who waits for its commit."""

    bot_id: int
    row: NewRow
    sealing: Sealing
    done: asyncio.Future[Outcome]


Stored = Callable[[Mapping[int, Sequence[NewRow]]], None]


class Writer:
    """`stored` is called after each commit, with the rows that were not there yet, by bot_id."""

    def __init__(self, engine: AsyncEngine, stored: Stored, *, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._stored = stored
        self._patience = patience
        self._waiting: deque[Waiting] = deque()
        self._bell = asyncio.Event()
        self.problem: str | None = None

    def put(self, bot_id: int, row: NewRow, sealing: Sealing) -> Awaitable[Outcome]:
        """Store a row with the next commit."""
        waiting = Waiting(bot_id, row, sealing, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._bell.set()
        return waiting.done

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._bell.wait()
            if not self._waiting:
                self._bell.clear()
                continue
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
            try:
                await self._store(batch)
            except Exception as error:
                # A data key that is gone, or a mistake of ours: whoever waits is told, and the next ones are taken.
                self._away(error)
                _log.exception("updates can't be stored")
            finally:
                _settle(batch, {}, Outcome.AWAY)

    async def _store(self, batch: list[Waiting]) -> None:
        batch.sort(key=lambda one: (one.bot_id, one.row.update_id or 0))
        if (error := await self._try(batch)) is None:
            return
        if is_hopeless(error):
            # One row that the database doesn't take must not keep the others out.
            for one in batch:
                await self._store_alone(one)
            return
        self._away(error)
        _settle(batch, {}, Outcome.AWAY)

    async def _store_alone(self, one: Waiting) -> None:
        error = await self._try([one])
        if error is not None and is_hopeless(error):
            reason = database_reason(error)
            _log.error("an update became a dead letter", bot_id=one.bot_id, cause=one.row.cause, error=reason)
            one.row = harmless(one.row, reason)
            error = await self._try([one])
            if error is not None and is_hopeless(error):
                _log.error("an update can't be stored at all and is dropped", bot_id=one.bot_id, cause=one.row.cause)
                _settle([one], {}, Outcome.KNOWN)
                return
        if error is not None:
            self._away(error)
            _settle([one], {}, Outcome.AWAY)

    async def _try(self, batch: Sequence[Waiting]) -> BaseException | None:
        """Commit all or nothing; what the database said if nothing."""
        by_bot: dict[int, list[Waiting]] = {}
        for one in batch:
            by_bot.setdefault(one.bot_id, []).append(one)
        fresh: dict[int, set[str]] = {}
        try:
            async with asyncio.timeout(self._patience), self._engine.begin() as connection:
                for bot_id, theirs in by_bot.items():
                    columns = columns_of([one.row for one in theirs], theirs[0].sealing)
                    added: Any = (await connection.exec_driver_sql(insert_of(bot_id), columns)).all()
                    fresh[bot_id] = {cause for _, cause, _ in added}
        except DATABASE_TROUBLE as error:
            return error
        self.problem = None
        self._stored(_rows(by_bot, fresh))
        _settle(batch, fresh, Outcome.KNOWN)
        return None

    def _away(self, error: BaseException) -> None:
        reason = database_reason(error)
        if self.problem is None:
            _log.warning("updates can't be stored; Telegram keeps them and comes again", reason=reason)
        self.problem = reason


def _rows(by_bot: Mapping[int, Sequence[Waiting]], fresh: Mapping[int, set[str]]) -> dict[int, list[NewRow]]:
    return {
        bot_id: rows
        for bot_id, theirs in by_bot.items()
        if (rows := [one.row for one in theirs if one.row.cause in fresh[bot_id]])
    }


def _settle(batch: Sequence[Waiting], fresh: Mapping[int, set[str]], otherwise: Outcome) -> None:
    for one in batch:
        if not one.done.done():
            stored = one.row.cause in fresh.get(one.bot_id, ())
            one.done.set_result(Outcome.STORED if stored else otherwise)
