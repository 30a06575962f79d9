"""What the desks for traces and dead letters share: a view of the database, the bots' names, texts they may open."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from botctl.control.ports import FleetSight
from botctl.control.pulse import Pulse
from botctl.control.secrets.sealing import opening_of
from botctl.control.secrets.vault import Vault
from botctl.control.tracing.contents import Opener
from botctl.control.trouble import DATABASE_TROUBLE, DatabaseAwayError
from botctl.errors import BotctlError, NoSuchBotError
from botctl.storage import tracing
from botctl.storage.sealing import Sealing

PATIENCE = 30
"""Seconds after which the server gives up a statement."""

P = ParamSpec("P")
T = TypeVar("T")

Note = Callable[[str, str, str, str | None, dict[str, Any]], None]
"""Writes into the audit log: operator, action, entity, bot, after."""


class DeskRoom:
    """`names` gives the bots of the fleet by bot_id; `sight` the supervisor's view; `note` writes the audit log."""

    def __init__(
        self,
        engine: AsyncEngine,
        vault: Vault,
        names: Callable[[], Mapping[int, str]],
        sight: Callable[[], Awaitable[FleetSight]],
        note: Note,
    ) -> None:
        self.note = note
        self.pulse = Pulse(engine)
        self._engine = engine
        self._vault = vault
        self._names = names
        self._sight = sight

    @asynccontextmanager
    async def view(self, *, text: bool = False) -> AsyncIterator[AsyncConnection]:
        """One view of the database. With `text`, the bots' keys are at hand. Raises DatabaseAwayError."""
        try:
            async with self._engine.connect() as opened:
                connection = await opened.execution_options(isolation_level="REPEATABLE READ")
                await connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{PATIENCE}s'")
                if text and not self._vault.loaded:
                    await self._vault.load(connection)
                yield connection
        except DATABASE_TROUBLE as error:
            if getattr(getattr(error, "orig", None), "sqlstate", "") == "57014":
                raise BotctlError(
                    f"the database has searched for {PATIENCE} s and found nothing yet",
                    hint="Name the bot (--bot): then only its part of the tables is searched.",
                ) from error
            raise DatabaseAwayError(error) from error

    @asynccontextmanager
    async def change(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that is committed at the end. Raises DatabaseAwayError."""
        try:
            async with self._engine.begin() as connection:
                yield connection
        except DATABASE_TROUBLE as error:
            raise DatabaseAwayError(error) from error

    async def names(self, connection: AsyncConnection) -> dict[int, str]:
        """All bots there ever were, by bot_id; those of the fleet as they are called now."""
        return await tracing.bot_names(connection) | dict(self._names())

    def find(self, names: Mapping[int, str], bot: str) -> int:
        """The bot_id of a name or of an id. Raises NoSuchBotError."""
        fleet = self._names()
        for known in (fleet, names):
            for bot_id, name in known.items():
                if name == bot:
                    return bot_id
        if bot.isdecimal() and int(bot) in names:
            return int(bot)
        there = ", ".join(fleet.values())
        raise NoSuchBotError(
            f"no bot is called {bot!r}", hint=f"There are: {there}. One that was removed is found by its id."
        )

    def opener(self, *, text: bool) -> Callable[[int], Opener]:
        """The opener of each bot, made at its first use."""
        made: dict[int, Opener] = {}

        def of(bot_id: int) -> Opener:
            if bot_id not in made:
                made[bot_id] = Opener(lambda: self._sealing(bot_id), show=text)
            return made[bot_id]

        return of

    async def sight(self) -> FleetSight | None:
        """The fleet as the supervisor sees it; None when it doesn't answer."""
        try:
            return await self._sight()
        except TimeoutError:
            return None

    def _sealing(self, bot_id: int) -> Sealing:
        return opening_of(self._vault, bot_id)


class Desk(Protocol):
    """What answers questions out of a room."""

    _room: DeskRoom


D = TypeVar("D", bound=Desk)


def while_it_answers(
    method: Callable[Concatenate[D, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[D, P], Coroutine[Any, Any, T]]:
    """Of a desk's method: given up when the database stops answering.

    Raises DatabaseAwayError and DatabaseSilentError besides.
    """

    @functools.wraps(method)
    async def within(desk: D, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await desk._room.pulse.within(method(desk, *args, **kwargs))

    return within
