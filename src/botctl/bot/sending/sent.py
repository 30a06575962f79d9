"""What is kept when Telegram has accepted a message: the send's result, the message itself, the event. One commit."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.handling.conversing import OpenConversations
from botctl.bot.handling.scope import Scope
from botctl.bot.sending.flood import Place
from botctl.bot.sending.methods import makes_messages
from botctl.bot.vitals.health import Health
from botctl.storage.cleaning import clean
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.sends import SendRow, Sends

_log = structlog.get_logger("botctl.bot.sending.sent")

_NUMBER = re.compile(r"-?[0-9]{1,20}")

ITEM = 1_000_000
"""The second message of one send, as an album has, is part n + 1,000,000 of its cause, and so on."""


class SentRecorder:
    """Shared by inline and deferred sends. `wake` is called when an event was committed."""

    def __init__(
        self,
        database: Database,
        sends: Sends,
        conversations: Conversations,
        open_conversations: OpenConversations,
        publisher: Publisher,
        health: Health,
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._sends = sends
        self._conversations = conversations
        self._open = open_conversations
        self._publisher = publisher
        self._health = health
        self._wake = wake

    async def inline(self, scope: Scope, n: int, method: str, payload: dict[str, Any], result: Any) -> None:
        """A handler's call was answered."""
        answered = clean(result)
        messages = messages_in(answered, chat_of(payload)) if makes_messages(method) else []

        async def work(connection: AsyncConnection) -> None:
            await self._sends.sent(connection, scope.cause, n, answered, begin_next=False)
            for item, message in enumerate(messages):
                await self._keep(connection, scope.cause, scope.trace_id, n, item, message)

        await self._database.transaction(work)
        self._announce(n, method, chat_of(payload), messages)

    async def _keep(
        self, connection: AsyncConnection, cause: str, trace_id: str, n: int, item: int, message: dict[str, Any]
    ) -> None:
        chat_id, thread_id = message["chat"]["id"], thread_of(message)
        conversation_id, _ = await self._open.get(connection, chat_id, thread_id)
        stored = StoredMessage(
            conversation_id=conversation_id,
            chat_id=chat_id,
            thread_id=thread_id,
            direction="out",
            role="handler",
            text=str(message.get("text") or message.get("caption") or ""),
            cause=cause,
            part=n + item * ITEM,
            telegram_message_id=message.get("message_id"),
            entities=message.get("entities") or message.get("caption_entities"),
            trace_id=trace_id,
        )
        await self._conversations.add(connection, [stored])
        await self._publisher.store(connection, self._publisher.sent(cause, trace_id, n, stored, item))

    async def deferred(self, row: SendRow, result: Any, stored: StoredMessage | None, *, begin_next: bool) -> None:
        """A part of an answer was accepted; with `begin_next` the next part is begun in the same commit."""
        answered = clean(result)
        messages = messages_in(answered, row.chat_id) if makes_messages(row.method) else []
        telegram_message_id = messages[0].get("message_id") if messages else None

        async def work(connection: AsyncConnection) -> None:
            await self._sends.sent(connection, row.cause, row.n, answered, begin_next=begin_next)
            if stored is None:
                for item, message in enumerate(messages):
                    await self._keep(connection, row.cause, row.trace_id, row.n, item, message)
                return
            if telegram_message_id is not None:
                await self._conversations.identify(connection, row.cause, row.n, telegram_message_id)
            known = dataclasses.replace(stored, telegram_message_id=telegram_message_id)
            await self._publisher.store(connection, self._publisher.sent(row.cause, row.trace_id, row.n, known))

        await self._database.transaction(work)
        self._announce(row.n, row.method, row.chat_id, messages)

    def _announce(self, n: int, method: str, chat: int | None, messages: list[dict[str, Any]]) -> None:
        if messages:
            self._health.count("messages_out", len(messages))
            self._wake()
        identity = messages[0].get("message_id") if messages else None
        _log.info("sent", n=n, method=method, chat_id=chat, telegram_message_id=identity)


def place_of(payload: Mapping[str, Any]) -> Place:
    """The chat a call is for: by number, by @name, or none."""
    chat = payload.get("chat_id")
    if isinstance(chat, str):
        return int(chat) if _NUMBER.fullmatch(chat) else chat.lower()
    return chat if isinstance(chat, int) and not isinstance(chat, bool) else None


def chat_of(payload: Mapping[str, Any]) -> int | None:
    """The chat a call is for, when it is named by number."""
    place = place_of(payload)
    return place if isinstance(place, int) else None


def thread_of(message: dict[str, Any]) -> int:
    """The thread of a forum a message is in; 0 for none."""
    thread = message.get("message_thread_id")
    return thread if isinstance(thread, int) and message.get("is_topic_message") else 0


def messages_in(result: Any, chat: int | None) -> list[dict[str, Any]]:
    """The messages an answer tells of: one, several of an album, or bare ids of copies, which are in `chat`."""
    found: list[dict[str, Any]] = []
    for one in result if isinstance(result, list) else [result]:
        if not isinstance(one, dict):
            continue
        if isinstance(one.get("chat"), dict) and isinstance(one["chat"].get("id"), int):
            found.append(one)
        elif isinstance(one.get("message_id"), int) and chat is not None:
            found.append({"message_id": one["message_id"], "chat": {"id": chat}})
    return found
