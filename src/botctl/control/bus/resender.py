"""Has events relayed again that went to a Redis which lost them: the outbox in PostgreSQL is the truth.

Consumers know an event by its id, so one that comes twice does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.bus.caretaking.identity import Loss
from botctl.bus.events import decode_event
from botctl.bus.topology import ROUTER_GROUP, Topology
from botctl.bus.wire import Argument, execute
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.errors import BotctlError, ProtocolError
from botctl.storage.outbox import ALL, due_again, relay_again

_log = structlog.get_logger("botctl.control.bus.resender")

_TRY_AGAIN_AFTER = 1.0
_PAGE = 100
"""Entries of an out stream that are looked at at once; one may have 64 kB."""

_T = TypeVar("_T")


class Resender:
    """`wake` is called when there may be something for the fleet's own relay; bots look by themselves."""

    def __init__(self, engine: AsyncEngine, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._wake = wake
        self._since: dict[int, float] = {}
        """From when on events of a bot may be lost, on the monotonic clock."""
        self._asked = asyncio.Event()

    def lost(self, seconds: float, bot_id: int) -> None:
        """What this bot has relayed within the last `seconds` may be lost."""
        since = time.monotonic() - seconds
        self._since[bot_id] = min(since, self._since.get(bot_id, since))
        self._asked.set()

    async def recover(self, loss: Loss, redis: Redis, topology: Topology) -> None:
        """What the server may have lost is due again when this returns.

        What stands in out streams and isn't routed is due again as well and goes from there: some of it may have come
        after what was lost. Nobody may route or publish meanwhile. Raises BotctlError while the database is away, and
        what Redis raises; may be done again and again.
        """
        rows = await self._commit(lambda connection: relay_again(connection, reach(loss)))
        async for key in redis.scan_iter(match=topology.out_pattern, count=1000):
            stream = key.decode()
            if (bot_id := topology.bot_of_out(stream)) is not None:
                rows += await self._take_back(redis, stream, bot_id)
        _log.warning("events that redis may have lost are relayed again", events=rows, empty=loss.empty)
        self._wake()

    async def _take_back(self, redis: Redis, stream: str, bot_id: int) -> int:
        """Entries that wait in an out stream go, as far as the outbox has them: from there they come in order."""
        after, rows = "-", 0
        while True:
            (reply,) = await execute(redis, [("XRANGE", stream, after, "+", "COUNT", _PAGE)])
            if isinstance(reply, ResponseError):
                return rows  # Something else under this name.
            if not reply:
                return rows
            events = {entry_id: _event_id(fields) for entry_id, fields in reply}
            ids = [event_id for event_id in events.values() if event_id]
            again = await self._commit(lambda connection, ids=ids: due_again(connection, bot_id, ids))  # type: ignore[misc]
            gone: list[Argument] = [entry_id for entry_id, event_id in events.items() if event_id in again]
            if gone:
                await execute(redis, [("XACK", stream, ROUTER_GROUP, *gone), ("XDEL", stream, *gone)])
            rows += len(gone)
            after = f"({reply[-1][0].decode()}"

    async def _commit(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        try:
            async with self._engine.begin() as connection:
                return await work(connection)
        except DATABASE_TROUBLE as error:
            why = database_reason(error)
            raise BotctlError(
                f"redis: it has lost events, and the database that has them can't be used: {why}"
            ) from error

    async def run(self) -> None:
        """Work off what single bots have lost, until cancelled; the database being away is waited out."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            lost, self._since = self._since, {}
            try:
                async with self._engine.begin() as connection:
                    rows = sum([await relay_again(connection, time.monotonic() - at, bot) for bot, at in lost.items()])
            except DATABASE_TROUBLE as error:
                _log.warning("events can't be relayed again yet", reason=database_reason(error))
                await asyncio.sleep(_TRY_AGAIN_AFTER)
                for bot, since in lost.items():
                    self.lost(time.monotonic() - since, bot)
            else:
                _log.info("events that redis may have lost are relayed again", events=rows)
                self._wake()


def reach(loss: Loss) -> float | None:
    """Seconds back from now from which on all that was relayed comes again; None: nobody can say."""
    return loss.seconds + ALL if loss.empty and loss.seconds is not None else loss.seconds


def _event_id(fields: Sequence[bytes]) -> str:
    """Empty for what isn't from an outbox: an operator's second try, or what is no event."""
    if len(fields) != 2:
        return ""
    try:
        return decode_event(fields[1]).id
    except ProtocolError:
        return ""
