"""What a developer's `register(app, bot)` is given beside the python-telegram-bot application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bot.database import Database
from botctl.bot.publishing import Publisher
from botctl.bot.reactions import Callback, Reactions
from botctl.bot.scope import Scope, active
from botctl.fleet.model import BotSpec


class BotContext:
    """The bot, as its handlers see it.

    Everything sent with `app.bot` or with python-telegram-bot's shortcuts while an update or an event is handled is
    journaled: when the process dies and the update is handled again, what was sent is not sent twice. So a handler may
    run more than once for one update; what it does elsewhere should bear that.
    """

    def __init__(
        self, spec: BotSpec, database: Database, publisher: Publisher, reactions: Reactions, wake: Callable[[], None]
    ) -> None:
        self.name: str = spec.name
        """The bot's name in the fleet file."""
        self.bot_id: int = spec.bot_id
        """Telegram's own id of the bot."""
        self.settings: BotSpec = spec
        """The bot's entry in the fleet file, defaults applied."""
        self.log: Any = structlog.get_logger(f"bot.{spec.name}")
        """A structlog logger; its lines carry the trace id of the update that is handled."""
        self._database = database
        self._publisher = publisher
        self._reactions = reactions
        self._wake = wake

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine with the bot's own login: it sees the bot's own rows and no other's.

        It has two connections, for all chats together: hold one no longer than needed.
        """
        return self._database.handlers_engine

    async def publish(self, type: str, data: dict[str, Any] | None = None, *, version: int = 1) -> str:
        """Publish an event, such as `order.placed`, to the fleet's bus; returns its id.

        While an update or an event is handled, it is committed together with the end of the handling, and a replay
        gives it the same id. Otherwise it is committed at once. Raises botctl.errors.ProtocolError for a type that is
        botctl's own and not in the catalogue, for data that isn't JSON, and beyond 64 KiB.
        """
        scope = active()
        if scope is not None:
            event = self._publisher.custom(scope, type, data or {}, version)
            scope.events.append(event)
            return event.event_id
        event = self._publisher.custom(Scope.operation(), type, data or {}, version)
        await self._database.statement(lambda connection: self._publisher.store(connection, event))
        self._wake()
        return event.event_id

    @overload
    def on_event(self, pattern: str) -> Callable[[Callback], Callback]: ...

    @overload
    def on_event(self, pattern: str, callback: Callback) -> Callback: ...

    def on_event(self, pattern: str, callback: Callback | None = None) -> Callback | Callable[[Callback], Callback]:
        """React to events of a type (`order.placed`) or pattern (`order.*`) that the bot's `subscribe:` lets in.

        `callback(event)` is a coroutine function; it is called once for each event, again if it raises. Can be used as
        a decorator. Raises ValueError for a pattern that can't match.
        """

        def register(function: Callback) -> Callback:
            self._reactions.add(pattern, function)
            return function

        return register if callback is None else register(callback)
