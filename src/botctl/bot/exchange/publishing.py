"""Makes the events a bot publishes, with ids that a replay makes again, and puts them into the outbox.

Message text stands in an event only where the bot's `share:` names its type.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.handling.scope import Scope
from botctl.bus.event_types.catalogue import lookup, validate
from botctl.bus.events import Event, encode_event, event_id
from botctl.errors import ProtocolError
from botctl.storage.cleaning import clean, clean_text
from botctl.storage.conversations import StoredMessage
from botctl.storage.outbox import Outbox, StoredEvent

_SHARED_TEXT = 8000
"""Characters of a message's text an event carries at most."""


class Publisher:
    """Events of one bot. `now` gives seconds since the epoch.

    A `discreet` one tells of errors by their class only: an exception's words may be a message's.
    """

    def __init__(
        self,
        bot_id: int,
        outbox: Outbox,
        share: Collection[str],
        now: Callable[[], float],
        *,
        discreet: bool = False,
    ) -> None:
        self._discreet = discreet
        self._bot_id = bot_id
        self._outbox = outbox
        self._share = frozenset(share)
        self._now = now

    async def store(self, connection: AsyncConnection, *events: StoredEvent) -> None:
        """Put events into the outbox, with what they tell of."""
        await self._outbox.add(connection, events)

    def custom(self, scope: Scope, type_: str, data: dict[str, Any], version: int) -> StoredEvent:
        """An event of a handler. Raises ProtocolError when the catalogue or the size limit refuses it."""
        own = lookup(type_) is None
        stored = self._make(scope.cause, scope.trace_id, str(scope.published), type_, data, version, own=own)
        event = event_of(stored)
        validate(event, f"bot:{self._bot_id}")
        encode_event(event)
        scope.published += 1
        return stored

    def request(
        self, scope: Scope, target: str, type_: str, data: dict[str, Any], deadline: float, which: str
    ) -> StoredEvent:
        """A request; `which` tells it from the others of this type to this bot that the cause leads to.

        Raises ProtocolError for a type of botctl's own, and when the size limit refuses it.
        """
        if lookup(type_) is not None:
            raise ProtocolError(f"{type_} is an event of botctl's own and can't be a request")
        key = f"request:{which}:{target}:{type_}"
        stored = self._make(scope.cause, scope.trace_id, key, type_, data, own=True)
        stored = dataclasses.replace(stored, envelope={"to": target, "deadline": deadline})
        encode_event(event_of(stored))
        return stored

    def reply(self, scope: Scope, request: Event, data: dict[str, Any], error: str) -> StoredEvent:
        """The answer to a request that is handled in this scope; `error` says why there is none.

        Raises ProtocolError when the size limit refuses it.
        """
        stored = self._make(scope.cause, scope.trace_id, "reply", request.type, data, own=True)
        envelope = {"to": request.source, "reply_to": request.id} | ({"error": error} if error else {})
        stored = dataclasses.replace(stored, envelope=envelope)
        encode_event(event_of(stored))
        return stored

    def received(self, scope: Scope, message: StoredMessage, kind: str) -> StoredEvent:
        """`message.received`."""
        data: dict[str, Any] = {
            "chat_id": message.chat_id,
            "thread_id": message.thread_id,
            "user_id": message.user_id,
            "telegram_message_id": message.telegram_message_id,
            "conversation_id": message.conversation_id,
            "kind": kind,
            "length": len(message.text),
        }
        return self._make(scope.cause, scope.trace_id, "received", "message.received", self._with_text(
            "message.received", data, message.text))  # fmt: skip

    def sent(self, cause: str, trace_id: str, n: int, message: StoredMessage, item: int = 0) -> StoredEvent:
        """`message.sent`. `item` numbers the messages of one send, such as an album's."""
        data: dict[str, Any] = {
            "chat_id": message.chat_id,
            "thread_id": message.thread_id,
            "telegram_message_id": message.telegram_message_id,
            "conversation_id": message.conversation_id,
            "role": message.role,
            "part": message.part,
            "length": len(message.text),
            "model": message.model,
        }
        key = f"sent:{n}:{item}" if item else f"sent:{n}"
        return self._make(cause, trace_id, key, "message.sent", self._with_text(
            "message.sent", data, message.text))  # fmt: skip

    def conversation(self, scope: Scope, what: str, conversation_id: int) -> StoredEvent:
        """`conversation.started` or `conversation.reset`."""
        data = {
            "chat_id": scope.chat_id,
            "thread_id": scope.thread_id,
            "conversation_id": conversation_id,
            "user_id": scope.user_id,
        }
        return self._make(scope.cause, scope.trace_id, what, f"conversation.{what}", data)

    def assistant_failed(self, scope: Scope, error: str, status: int | None, detail: str) -> StoredEvent:
        """`assistant.failed`."""
        data = {
            "chat_id": scope.chat_id,
            "thread_id": scope.thread_id,
            "error": error,
            "status": status,
            "detail": "" if self._discreet else detail[:300],
        }
        return self._make(scope.cause, scope.trace_id, "assistant.failed", "assistant.failed", data)

    def handler_failed(self, scope: Scope, error: BaseException, detail: str, *, dead: bool) -> StoredEvent:
        """`handler.failed`."""
        data = {
            "error": type(error).__name__,
            "chat_id": scope.chat_id,
            "detail": type(error).__name__ if self._discreet else detail[:300],
            "attempts": scope.attempt,
            "dead": dead,
        }
        return self._make(scope.cause, scope.trace_id, f"failed:{scope.attempt}", "handler.failed", data)

    def unreachable(self, cause: str, trace_id: str, n: int, chat_id: int, reason: str) -> StoredEvent:
        """`chat.unreachable`."""
        data = {"chat_id": chat_id, "reason": reason}
        return self._make(cause, trace_id, f"unreachable:{n}:{chat_id}", "chat.unreachable", data)

    def _with_text(self, type_: str, data: dict[str, Any], text: str) -> dict[str, Any]:
        return {**data, "text": clean_text(text)[:_SHARED_TEXT]} if type_ in self._share else data

    def _make(
        self,
        cause: str,
        trace_id: str,
        key: str,
        type_: str,
        data: dict[str, Any],
        version: int = 1,
        *,
        own: bool = False,
    ) -> StoredEvent:
        """`own`: of a type of the bot's own, whose data stay as they are; in the catalogue's, None is left out."""
        # A handler's events are counted, our own are named: the two never meet.
        number = int(key) if key.isdigit() else 0
        named = cause if key.isdigit() else f"{cause}|{key}"
        return StoredEvent(
            event_id=event_id(self._bot_id, named, number),
            type=type_,
            version=version,
            occurred_at=self._now(),
            correlation_id=trace_id,
            causation_id=cause,
            data=clean(data if own else {name: value for name, value in data.items() if value is not None}),
        )


def digest_of(type_: str, data: dict[str, Any]) -> str:
    """The same for the same data, whatever the order of their keys. Raises ProtocolError for what is no JSON."""
    try:
        return hashlib.sha256(msgspec.json.encode(clean(data), order="deterministic")).hexdigest()[:32]
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(f"event {type_} can't be encoded: {error}") from error


def event_of(stored: StoredEvent) -> Event:
    """The event in a row of the outbox."""
    return Event(**stored.event_fields())
