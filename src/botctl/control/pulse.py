"""Gives what operators ask for a deadline: a database that hangs, instead of refusing, is told as one that is away.

Work that is given up on is cancelled, so that nothing of it is done later behind the operator's back. Slow work has all
the time it needs, as long as the database answers others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError
from botctl.errors import BotctlError

T = TypeVar("T")

ANSWER = 3.0
"""Seconds within which the database has to answer the simplest question, before anything is begun."""

LOOK_EVERY = 2.0
SILENCE = 5.0
"""Seconds without an answer, while something is under way, after which it is given up."""


class DatabaseSilentError(BotctlError):
    """The database stopped answering in the middle of something."""

    def __init__(self) -> None:
        super().__init__(
            "the database stopped answering while this was done: it may have been done wholly, in part or not at all",
            hint="What was not done is not done later, but for passwords that bots have been handed already. When"
            " `botctl status` shows that the database is back, look (`botctl audit tail`), and give the command again.",
        )


class Pulse:
    """Of one database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._given_up: set[asyncio.Task[Any]] = set()

    async def feel(self, seconds: float = ANSWER) -> None:
        """Return when the database answers. Raises DatabaseAwayError, after so many seconds at the latest."""
        done = await self._finished(asyncio.create_task(self._ask()), seconds)
        if done is None:
            raise DatabaseAwayError(TimeoutError())
        try:
            done.result()
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error

    async def within(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it while the database answers. Raises DatabaseAwayError before it was begun, DatabaseSilentError after."""
        try:
            await self.feel()
        except BaseException:
            work.close()
            raise
        task = asyncio.create_task(work)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=LOOK_EVERY)
                if done:
                    return task.result()
                with contextlib.suppress(DatabaseAwayError):
                    await self.feel(SILENCE)
                    continue
                if not task.done():
                    raise DatabaseSilentError
        finally:
            self._give_up(task)

    async def _ask(self) -> None:
        async with self._engine.connect() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def _finished(self, task: asyncio.Task[None], seconds: float) -> asyncio.Task[None] | None:
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        finally:
            self._give_up(task)
        return task if done else None

    def _give_up(self, task: asyncio.Task[Any]) -> None:
        """Cancelled and not waited for: letting go of a connection to a server that hangs takes seconds."""
        if not task.done():
            task.cancel()
            self._given_up.add(task)
            task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._given_up.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains of it
