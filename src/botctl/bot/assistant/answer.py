"""The assistant's turn: history from the database, completion, answer; all of it deferred to the commit of the update.

A completion is recorded before anything is made of it, and a replay uses the record. When the completion API fails, the
user gets an apology, operators get an event, and the update counts as handled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection
from telegram import Message, Update
from telegram.error import TelegramError
from telegram.ext import CallbackContext, MessageHandler, filters

from botctl.bot.assistant.client import CompletionClient, CompletionError
from botctl.bot.assistant.markdown import render
from botctl.bot.database import Database
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.handling.scope import Scope, active
from botctl.bot.handling.suspects import Suspects
from botctl.bot.sending.bot_api import App
from botctl.bot.tasks import end
from botctl.bot.vitals.health import Health, Trouble
from botctl.fleet.model import Assistant
from botctl.observability.logs import redact
from botctl.storage.completions import Completions, StoredCompletion
from botctl.storage.conversations import Conversations, Turn
from botctl.storage.inbox import Inbox

_log = structlog.get_logger("botctl.bot.assistant")

_TYPING_EVERY = 4.0
"""Seconds; Telegram shows a chat action for five."""

_STEP = 0


class Answerer:
    """Answers plain text as the last handler of group 0."""

    def __init__(
        self,
        assistant: Assistant,
        client: CompletionClient,
        database: Database,
        inbox: Inbox,
        conversations: Conversations,
        completions: Completions,
        publisher: Publisher,
        health: Health,
        suspects: Suspects,
    ) -> None:
        self._suspects = suspects
        self._assistant = assistant
        self._client = client
        self._database = database
        self._inbox = inbox
        self._conversations = conversations
        self._completions = completions
        self._publisher = publisher
        self._health = health

    def add_to(self, application: App) -> None:
        """Register behind the developer's handlers. Edited messages and posts of channels are left alone."""
        plain = filters.TEXT & ~filters.COMMAND & filters.UpdateType.MESSAGE
        application.add_handler(MessageHandler(plain, self._on_text))

    async def _on_text(self, update: Update, context: CallbackContext[Any, Any, Any, Any]) -> None:
        message, scope = update.message, active()
        if message is None or not message.text or scope is None or not _is_meant(message, context):
            return
        try:
            completion = await self._complete(scope, message.text, context)
        except CompletionError as error:
            self._apologise(scope, error)
            return
        self._health.well(Trouble.COMPLETION)
        scope.completion = completion
        for part in render(completion.text):
            scope.reply("assistant", part.text, entities=part.entities)

    async def _complete(
        self, scope: Scope, text: str, context: CallbackContext[Any, Any, Any, Any]
    ) -> StoredCompletion:
        found, history = await self._prepare(scope)
        if found is not None:
            _log.info("completion reused", model=found.model)
            return found
        try:
            async with _typing(context.bot, scope):
                completion = await self._client.complete([*history, Turn("user", text)])
        except CompletionError:
            await self._suspects.enter(scope)
            await self._database.statement(
                lambda connection: self._inbox.begin_attempt(connection, scope.inbox_id, scope.attempt, again=True)
            )
            scope.attempt_counted = True
            raise
        await self._suspects.enter(scope)

        async def record(connection: AsyncConnection) -> None:
            await self._completions.record(connection, scope.cause, _STEP, completion)
            await self._inbox.begin_attempt(connection, scope.inbox_id, scope.attempt, again=True)

        await self._database.transaction(record)
        scope.attempt_counted = True
        self._health.count("completions")
        self._health.count("tokens", (completion.input_tokens or 0) + (completion.output_tokens or 0))
        self._health.count("tokens_in", completion.input_tokens or 0)
        self._health.count("tokens_out", completion.output_tokens or 0)
        self._health.count("tokens_cached", completion.cached_tokens or 0)
        return completion

    async def _prepare(self, scope: Scope) -> tuple[StoredCompletion | None, list[Turn]]:
        async def work(connection: AsyncConnection) -> tuple[StoredCompletion | None, list[Turn]]:
            found = await self._completions.find(connection, scope.cause, _STEP)
            if found is not None or scope.conversation_id is None:
                return found, []
            history = await self._conversations.history(
                connection, scope.conversation_id, scope.cause, self._assistant.history
            )
            for why in history.unreadable:
                _log.error("an earlier message can't be opened and is left out", why=why)
            # While the attempt only waits for the model, a crash is not its doing and is not counted.
            await self._inbox.step_back(connection, scope.inbox_id, scope.attempt - 1)
            return None, history

        found, history = await self._database.transaction(work)
        if found is None:
            scope.attempt_counted = False
            await self._suspects.leave(scope)
        return found, history

    def _apologise(self, scope: Scope, error: CompletionError) -> None:
        _log.error("no completion", kind=error.kind, status=error.status, detail=error.detail)
        self._health.count("completion_errors")
        self._health.trouble(Trouble.COMPLETION, f"completion api: {error.kind}")
        scope.apology = True
        scope.events.append(self._publisher.assistant_failed(scope, error.kind, error.status, redact(error.detail)))
        if self._assistant.apology:
            scope.reply("system", self._assistant.apology)


def _is_meant(message: Message, context: CallbackContext[Any, Any, Any, Any]) -> bool:
    """In a group the assistant answers only those who speak to it: by name, or by a reply to its message."""
    if message.chat.type == "private":
        return True
    me = context.bot
    reply = message.reply_to_message
    if reply is not None and reply.from_user is not None and reply.from_user.id == me.id:
        return True
    return f"@{me.username}".lower() in (message.text or "").lower()


@asynccontextmanager
async def _typing(bot: Any, scope: Scope) -> AsyncIterator[None]:
    async def show() -> None:
        while True:
            with suppress(TelegramError):
                await bot.send_chat_action(scope.chat_id, "typing", message_thread_id=scope.thread_id or None)
            await asyncio.sleep(_TYPING_EVERY)

    task = asyncio.create_task(show(), name="typing")
    try:
        yield
    finally:
        await end([task])
