"""What is kept when Telegram has accepted a message: the send's result, the message itself, the event. One commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.cleaning import clean
from botctl.bot.conversing import OpenConversations
from botctl.bot.database import Database
from botctl.bot.health import Health
from botctl.bot.publishing import Publisher
from botctl.bot.scope import Scope
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.sends import SendRow, Sends

_log = structlog.get_logger("botctl.bot.sent")


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
        message = _message_in(answered) if _makes_messages(method) else None

        async def work(connection: AsyncConnection) -> None:
            await self._sends.sent(connection, scope.cause, n, answered, begin_next=False)
            if message is None:
                return
            chat_id, thread_id = message["chat"]["id"], thread_of(message)
            conversation_id, _ = await self._open.get(connection, chat_id, thread_id)
            text = str(message.get("text") or message.get("caption") or "")
            stored = StoredMessage(
                conversation_id=conversation_id,
                chat_id=chat_id,
                thread_id=thread_id,
                direction="out",
                role="handler",
                text=text,
                cause=scope.cause,
                part=n,
                telegram_message_id=message.get("message_id"),
                entities=message.get("entities") or message.get("caption_entities"),
                trace_id=scope.trace_id,
            )
            await self._conversations.add(connection, [stored])
            await self._publisher.store(
                connection,
                self._publisher.sent(scope.cause, scope.trace_id, n, stored),
            )

        await self._database.transaction(work)
        self._announce(n, method, chat_of(payload), message)

    async def deferred(self, row: SendRow, result: Any, stored: StoredMessage, *, begin_next: bool) -> None:
        """A part of an answer was accepted; with `begin_next` the next part is begun in the same commit."""
        answered = clean(result)
        message = _message_in(answered)
        telegram_message_id = message.get("message_id") if message is not None else None
        event = self._publisher.sent(
            row.cause, row.trace_id, row.n, dataclasses.replace(stored, telegram_message_id=telegram_message_id)
        )

        async def work(connection: AsyncConnection) -> None:
            await self._sends.sent(connection, row.cause, row.n, answered, begin_next=begin_next)
            if telegram_message_id is not None:
                await self._conversations.identify(connection, row.cause, row.n, telegram_message_id)
            await self._publisher.store(connection, event)

        await self._database.transaction(work)
        self._announce(row.n, row.method, row.chat_id, message)

    def _announce(self, n: int, method: str, chat: int | None, message: dict[str, Any] | None) -> None:
        if message is not None:
            self._health.count("messages_out")
            self._wake()
        identity = message.get("message_id") if message is not None else None
        _log.info("sent", n=n, method=method, chat_id=chat, telegram_message_id=identity)


def chat_of(payload: dict[str, Any]) -> int | None:
    """The chat a call is for, when it is named by number."""
    chat = payload.get("chat_id")
    if isinstance(chat, str) and chat.lstrip("-").isdigit():
        return int(chat)
    return chat if isinstance(chat, int) and not isinstance(chat, bool) else None


def thread_of(message: dict[str, Any]) -> int:
    """The thread of a forum a message is in; 0 for none."""
    thread = message.get("message_thread_id")
    return thread if isinstance(thread, int) and message.get("is_topic_message") else 0


def _makes_messages(method: str) -> bool:
    return method.startswith(("send", "forward", "copy"))


def _message_in(result: Any) -> dict[str, Any] | None:
    if isinstance(result, list) and result:
        result = result[0]
    if isinstance(result, dict) and isinstance(result.get("chat"), dict) and isinstance(result["chat"].get("id"), int):
        return result
    return None
