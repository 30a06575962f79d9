"""What a developer's `register(app, bot)` is given beside the python-telegram-bot application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, overload

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bot.database import Database
from botctl.bot.exchange.answering import Answer, Answering
from botctl.bot.exchange.asking import Asking
from botctl.bot.exchange.declared import DeclaredTypes, Schema
from botctl.bot.exchange.once import Once
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.exchange.reactions import Callback, Reactions
from botctl.bot.handling.scope import Scope, active
from botctl.bot.jobs.desk import JobDesk
from botctl.bot.jobs.scheduling import Scheduling
from botctl.bus.event_types.upcasting import Upcaster
from botctl.fleet.model import BotSpec


class BotContext(Scheduling):
    """The bot, as its handlers see it.

    Everything sent with `app.bot` or with python-telegram-bot's shortcuts while an update or an event is handled is
    journaled: when the process dies and the update is handled again, what was sent is not sent twice. So a handler may
    run more than once for one update; what it does elsewhere should bear that.
    """

    def __init__(
        self,
        spec: BotSpec,
        database: Database,
        publisher: Publisher,
        reactions: Reactions,
        wake: Callable[[], None],
        *,
        asking: Asking,
        answering: Answering,
        declared: DeclaredTypes,
        once: Once,
        jobs: JobDesk,
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
        self._asking = asking
        self._answering = answering
        self._declared = declared
        self._once = once
        self._jobs = jobs

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine with the bot's own login: it sees the bot's own rows and no other's.

        It has two connections, for all chats together: hold one no longer than needed.
        """
        return self._database.handlers_engine

    async def publish(self, type: str, data: Any = None, *, version: int | None = None) -> str:
        """Publish an event, such as `order.placed`, to the fleet's bus; returns its id.

        `data` is a dict, or an instance of what the type was declared with; `version` that of the declaration, else 1.

        While an update or an event is handled, it is committed together with the end of the handling, and a replay
        gives it the same id. Otherwise it is committed at once. Raises botctl.errors.ProtocolError for a type that is
        botctl's own and not in the catalogue, for data that isn't JSON or not as declared, and beyond 64 KiB.
        """
        plain, version = self._declared.outgoing(type, data, version)
        scope = active()
        if scope is not None:
            event = self._publisher.custom(scope, type, plain, version)
            scope.events.append(event)
            return event.event_id
        event = self._publisher.custom(Scope.operation(), type, plain, version)
        await self._database.statement(lambda connection: self._publisher.store(connection, event))
        self._wake()
        return event.event_id

    async def request(self, bot: str | int, type: str, data: Any = None, *, timeout: float = 10.0) -> dict[str, Any]:
        """Ask another bot of the fleet, by its name or id, such as `price.quote` of `sales`; returns its answer.

        The other bot must let the request in (`answers:` in the fleet file) and have an `on_request` for it. `timeout`:
        seconds, at most 600. The request is published at once, whatever becomes of the handling it is made in. When the
        process dies and the update is handled again, the same request (of the same data) gives the same answer and the
        other bot is not asked twice; only after a handling that has failed (raised) is one without an answer made anew.

        Raises botctl.errors.RequestTimeoutError when no answer came in time, RequestRefusedError when there will be
        none, ProtocolError as `publish` does, ValueError for what is no bot's name and for an unfit timeout.
        """
        plain, _ = self._declared.outgoing(type, data, None)
        return await self._asking.ask(str(bot), type, plain, timeout)

    @overload
    def on_request(self, pattern: str) -> Callable[[Answer], Answer]: ...

    @overload
    def on_request(self, pattern: str, callback: Answer) -> Answer: ...

    def on_request(self, pattern: str, callback: Answer | None = None) -> Answer | Callable[[Answer], Answer]:
        """Answer requests of a type or pattern that the bot's `answers:` lets in.

        `callback(event)` is a coroutine function that returns a dict, the answer; whatever it raises answers with an
        error. It is called once for each request, again only when the process has died meanwhile. `event.source_name`
        is the bot that asks. Of several callbacks that mean a request the first one registered answers. Can be used as
        a decorator. Raises ValueError for a pattern that can't match.
        """

        def register(function: Answer) -> Answer:
            self._answering.add(pattern, function)
            return function

        return register if callback is None else register(callback)

    async def once(self, key: str) -> bool:
        """True for the first handling of this bot that asks with this key, and for every replay of it; else False.

        The key is taken with the commit that ends the handling; if that fails, it is free again. Who asks meanwhile
        waits. Outside of a handling it is taken at once. Kept for 30 days, and never sealed: put no words of users into
        it. Raises ValueError for an empty key or one of more than 200 characters.
        """
        return await self._once.take(key)

    def declare(
        self,
        type: str,
        *,
        version: int = 1,
        schema: Schema = None,
        upcast: Mapping[int, Upcaster] = MappingProxyType({}),
    ) -> None:
        """Say how the data of an event type of your own look: checked when this bot publishes it, and when it reacts.

        `schema`: a msgspec.Struct, a dataclass, a TypedDict, a pydantic model, or a JSON schema. `upcast[v]` is a
        function from data of version v to data of version v + 1. An event in a newer version than declared, too old, or
        with other data is not handed to `on_event`: after its attempts it is a dead letter, to be tried again when the
        bot knows that version. Raises ValueError and UsageError for declarations that can't be.
        """
        self._declared.declare(type, version, schema, upcast)

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
