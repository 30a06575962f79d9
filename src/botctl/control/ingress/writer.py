"""Stores updates: what has come meanwhile, of all bots, in one commit after another.

One transaction at a time, so that what is committed later has higher numbers; within one, the updates of a bot in the
order of their ids. Never says that something is stored before it is committed, and keeps nothing that it can't store.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.ingress.telling import Telling
from botctl.control.trouble import DATABASE_TROUBLE, database_reason, is_hopeless
from botctl.storage.inbox import Inbox, NewRow, columns_of, harmless, insert_of
from botctl.storage.repeats import another, is_repeat, to_compare
from botctl.storage.sealing import Sealing

_log = structlog.get_logger("botctl.control.ingress")

MOST_AT_ONCE = 200
"""Rows of one commit."""

PATIENCE = 10.0
"""Seconds for what is taken at a time, in however many commits; a database that needs longer is as good as away, and
Telegram comes again."""


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


@dataclass(slots=True)
class _Share:
    """Of one commit, what is one bot's; `columns` are its rows as they are stored."""

    bot_id: int
    waiting: list[Waiting]
    columns: tuple[list[Any], ...]


class Writer:
    """`stored` is called after each commit, with the rows that were not there yet, by bot_id."""

    def __init__(
        self, engine: AsyncEngine, stored: Stored, telling: Telling | None = None, *, patience: float = PATIENCE
    ) -> None:
        self._engine = engine
        self._stored = stored
        self._telling = telling or Telling()
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
                # A mistake of ours: whoever waits is told, and the next ones are taken.
                self._away(error)
                _log.exception("updates can't be stored")
            finally:
                _settle(batch, {}, Outcome.AWAY)

    async def _store(self, batch: list[Waiting]) -> None:
        """All of it within `patience`; whoever has no outcome then is told to come again."""
        until = asyncio.get_running_loop().time() + self._patience
        shares = self._shares(batch)
        refused: list[_Share] = []
        while shares and (failed := await self._try(shares, until)) is not None:
            share, error = failed
            if share is None or not is_hopeless(error):
                self._away(error)
                return
            # One bot's row that the database doesn't take must not keep the others out.
            shares.remove(share)
            refused.append(share)
        for share in refused:
            for one in share.waiting:
                if not await self._store_alone(one, until):
                    return

    def _shares(self, batch: list[Waiting]) -> list[_Share]:
        """By bot, in the order of ids. Those of a bot whose rows can't be sealed are told to come again."""
        by_bot: dict[int, list[Waiting]] = {}
        for one in sorted(batch, key=lambda one: (one.bot_id, one.row.update_id or 0)):
            by_bot.setdefault(one.bot_id, []).append(one)
        shares: list[_Share] = []
        for bot_id, theirs in by_bot.items():
            try:
                shares.append(_Share(bot_id, theirs, columns_of([one.row for one in theirs], theirs[0].sealing)))
            except Exception as error:
                _settle(theirs, {}, Outcome.AWAY)
                self._tell(bot_id, "a bot's updates can't be sealed; Telegram keeps them", error=str(error)[:200])
        return shares

    async def _store_alone(self, one: Waiting, until: float) -> bool:
        """Store one row, or a dead letter in its place; whether the database is there for others."""
        error = await self._try_one(one, until)
        if error is not None and is_hopeless(error):
            reason = database_reason(error)
            self._tell(one.bot_id, "an update became a dead letter", cause=one.row.cause, error=reason)
            one.row = harmless(one.row, reason)
            error = await self._try_one(one, until)
        if error is None:
            return True
        self._away(error)
        _settle([one], {}, Outcome.AWAY)
        return is_hopeless(error)

    async def _try_one(self, one: Waiting, until: float) -> BaseException | None:
        failed = await self._try([_Share(one.bot_id, [one], columns_of([one.row], one.sealing))], until)
        return failed[1] if failed is not None else None

    async def _try(self, shares: Sequence[_Share], until: float) -> tuple[_Share | None, BaseException] | None:
        """Commit all or nothing; what the database said if nothing, and of whose rows it said it."""
        fresh: dict[int, set[str]] = {}
        others: list[tuple[Waiting, NewRow]] = []
        at: _Share | None = None
        try:
            async with asyncio.timeout_at(until), self._engine.begin() as connection:
                for at in shares:
                    fresh[at.bot_id] = await _insert(connection, at.bot_id, at.columns)
                    if found := await _others(connection, at, fresh[at.bot_id]):
                        others += found
                        columns = columns_of([row for _, row in found], at.waiting[0].sealing)
                        fresh[at.bot_id] |= await _insert(connection, at.bot_id, columns)
                at = None
        except DATABASE_TROUBLE as error:
            return at, error
        self.problem = None
        for one, row in others:
            one.row = row
        for share in shares:
            _settle(share.waiting, fresh, Outcome.KNOWN)
        self._stored(_rows(shares, fresh))
        return None

    def _away(self, error: BaseException) -> None:
        reason = database_reason(error)
        if self.problem is None:
            _log.warning("updates can't be stored; Telegram keeps them and comes again", reason=reason)
        self.problem = reason

    def _tell(self, bot_id: int, what: str, **more: Any) -> None:
        if times := self._telling.times(bot_id, what, asyncio.get_running_loop().time()):
            _log.error(what, bot_id=bot_id, times=times, **more)


def _rows(shares: Sequence[_Share], fresh: Mapping[int, set[str]]) -> dict[int, list[NewRow]]:
    return {
        share.bot_id: rows
        for share in shares
        if (rows := [one.row for one in share.waiting if one.row.cause in fresh[share.bot_id]])
    }


async def _insert(connection: AsyncConnection, bot_id: int, columns: tuple[list[Any], ...]) -> set[str]:
    added: Any = (await connection.exec_driver_sql(insert_of(bot_id), columns)).all()
    return {cause for _, cause, _ in added}


async def _others(connection: AsyncConnection, share: _Share, fresh: set[str]) -> list[tuple[Waiting, NewRow]]:
    """Of updates whose number is known, those that are no repeats, each under a cause of its own."""
    compared = {id(row) for row in to_compare([one.row for one in share.waiting], fresh)}
    asked = [one for one in share.waiting if id(one.row) in compared]
    if not asked:
        return []
    known = await Inbox(share.bot_id, share.waiting[0].sealing).known(connection, [one.row.cause for one in asked])
    return [
        (one, another(one.row))
        for one in asked
        if one.row.cause in known and not is_repeat(one.row, *known[one.row.cause])
    ]


def _settle(batch: Sequence[Waiting], fresh: Mapping[int, set[str]], otherwise: Outcome) -> None:
    for one in batch:
        if not one.done.done():
            stored = one.row.cause in fresh.get(one.bot_id, ())
            one.done.set_result(Outcome.STORED if stored else otherwise)
