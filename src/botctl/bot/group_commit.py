"""One commit for the work of many: what waits for a connection at the same time goes into one transaction.

Work must be idempotent, as all work of `Database` is: whatever goes wrong in a transaction of several, it is rolled
back, and each of them is done once more in one of its own. So a failure is only that of who has failed, and nobody is
told that something is committed before it is. Alone, work is done just as it would be without this. Nothing is ever
waited for: a group is who has come while the connections were busy.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.bot.faults import database_away
from botctl.bot.tasks import end
from botctl.storage.direct import Ask, Session

_T = TypeVar("_T")
Work = Callable[[AsyncConnection], Awaitable[_T]]

MOST = 16
"""Works in one transaction: who comes last waits for all before it."""

AT_ONCE = 2
"""Transactions at the same time; as many as the engine has connections."""


@dataclass(eq=False)
class _Item:
    work: Work[Any]
    single: bool
    """Whether it is one statement, which alone commits by itself."""
    apart: bool
    """Whether it only reads, and perhaps much: it has its turn, and nobody's commit waits for its end."""
    done: asyncio.Future[Any]
    first: Ask | None = None
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def finish(self, result: Any, error: BaseException | None = None) -> None:
        if self.done.done():
            return  # whoever wanted it was cancelled
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


class GroupCommit:
    """Works over the connections of an engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting: deque[_Item] = deque()
        self._servers: set[asyncio.Task[None]] = set()
        self._serving = 0
        """Servers that will look at what waits once more; a task that has looked last is done a moment later only."""

    async def run(
        self,
        work: Work[_T],
        *,
        first: Ask | None = None,
        single: bool = False,
        apart: bool = False,
        urgent: bool = False,
    ) -> _T:
        """Do the work, perhaps with that of others; it is committed when this returns. Raises what the work raises.

        What is `urgent` is in the next group, before all that waits. `first` is what the work asks first of all.
        """
        item = _Item(work, single or apart, apart, asyncio.get_running_loop().create_future(), first)
        (self._waiting.appendleft if urgent else self._waiting.append)(item)
        self._see_to_servers()
        result: _T = await item.done
        return result

    async def close(self) -> None:
        """Give up what waits and what is under way."""
        for item in self._waiting:
            item.done.cancel()
        self._waiting.clear()
        await end(list(self._servers))

    def _see_to_servers(self) -> None:
        if self._waiting and self._serving < AT_ONCE:
            self._serving += 1
            server = asyncio.create_task(self._serve(), name="group commit")
            self._servers.add(server)
            server.add_done_callback(self._servers.discard)

    async def _serve(self) -> None:
        try:
            await self._work_off()
        finally:
            self._serving -= 1
            self._see_to_servers()  # it may have broken

    async def _work_off(self) -> None:
        while self._waiting:
            group = [self._waiting.popleft()]
            while self._waiting and len(group) < MOST and not (group[0].apart or self._waiting[0].apart):
                group.append(self._waiting.popleft())
            group = [item for item in group if not item.done.done()]
            try:
                await self._do(group)
            except BaseException:
                for item in group:
                    item.done.cancel()
                raise
            # Whoever else waits for a connection would find it taken again: the pool hands none over.
            await asyncio.sleep(0)

    async def _do(self, group: list[_Item]) -> None:
        if len(group) > 1:
            try:
                results = await self._together(group)
            except Exception as error:
                if database_away(error):
                    for item in group:
                        item.finish(None, error)
                    return
            else:
                for item, result in zip(group, results, strict=True):
                    item.finish(result)
                return
        for item in group:
            await self._alone(item)

    async def _alone(self, item: _Item) -> None:
        try:
            (result,) = await self._together([item])
        except Exception as error:
            item.finish(None, error)
        else:
            item.finish(result)

    async def _together(self, group: list[_Item]) -> list[Any]:
        async with self._engine.connect() as connection:
            session = Session(connection, transaction=len(group) > 1 or not group[0].single)
            try:
                await session.ask_all([item.first for item in group if item.first is not None])
                results = [await self._in_context(item, session.work(item.first)) for item in group]
                await session.commit()
            except BaseException as error:
                await session.rollback(error)
                raise
            return results

    @staticmethod
    async def _in_context(item: _Item, connection: AsyncConnection) -> Any:
        """In the context of who wants it: log lines, and whose scope it is."""

        async def work() -> Any:
            return await item.work(connection)

        return await asyncio.create_task(work(), context=item.context)
