"""Requests of other bots: to the developer's callbacks, and their answers back with the end of the handling.

A request is an event of the inbox, so it is handled once, again after a crash, and its reply is committed with that.
One whose deadline is over is not handled. A callback that raises answers with an error and is not called again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from botctl.bot.exchange.publishing import Publisher
from botctl.bot.faults import brief, environmental
from botctl.bot.handling.scope import active
from botctl.bot.sending.journal import NotRepeatedError
from botctl.bot.vitals.health import Health
from botctl.bus.event_types.subscriptions import is_pattern, matches
from botctl.bus.events import Event
from botctl.bus.routing.requests import Refusal
from botctl.errors import ProtocolError

Answer = Callable[[Event], Awaitable[dict[str, Any] | None]]

_log = structlog.get_logger("botctl.bot.exchange.answering")


class Answering:
    """The callbacks in the order they were registered: the first whose pattern means a request answers it.

    `now` gives seconds since the epoch. A `discreet` bot says of an error only its class.
    """

    def __init__(
        self,
        publisher: Publisher,
        health: Health,
        incoming: Callable[[Event], Event],
        *,
        now: Callable[[], float],
        discreet: bool,
    ) -> None:
        self._publisher = publisher
        self._health = health
        self._incoming = incoming
        """Checks a request's data and brings them up to date."""
        self._now = now
        self._discreet = discreet
        self._callbacks: list[tuple[str, Answer]] = []

    def add(self, pattern: str, callback: Answer) -> None:
        """Raises ValueError for a pattern that can never match."""
        if not is_pattern(pattern):
            raise ValueError(f"{pattern!r} is no event type or pattern, such as price.quote or price.*")
        self._callbacks.append((pattern, callback))

    async def answer(self, event: Event) -> None:
        """Work a request off, within its handling. Raises only what is to be tried again."""
        if event.deadline and self._now() > event.deadline:
            self._health.count("requests_expired")
            _log.info("a request was too late to be worked on", type=event.type, source=event.source)
            return
        callback = next((one for pattern, one in self._callbacks if matches(pattern, event.type)), None)
        if callback is None:
            self._reply(event, {"detail": "no on_request() of the bot means it"}, Refusal.UNHANDLED)
            return
        try:
            answer = await callback(self._incoming(event))
            if answer is not None and not isinstance(answer, dict):
                raise TypeError(f"on_request() must return a dict, not {type(answer).__name__}")
            self._reply(event, answer or {}, None)
        except Exception as error:
            if environmental(error) and not isinstance(error, NotRepeatedError):
                raise
            _log.error("a request could not be answered", type=event.type, source=event.source, exc_info=error)
            detail = type(error).__name__ if self._discreet else brief(error, 300)
            self._reply(event, {"detail": detail}, Refusal.FAILED)

    def _reply(self, event: Event, data: dict[str, Any], error: Refusal | None) -> None:
        scope = active()
        if scope is None:
            raise ProtocolError("a request is answered while it is handled")
        scope.events.append(self._publisher.reply(scope, event, data, error.value if error is not None else ""))
