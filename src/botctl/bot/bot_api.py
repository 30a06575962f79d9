"""python-telegram-bot's `Bot` and `Application`, with every call going through the send journal."""

from __future__ import annotations

import asyncio
from typing import Any

from telegram.error import BadRequest
from telegram.ext import Application, ApplicationBuilder, CallbackContext, ExtBot
from telegram.request import RequestData
from telegram.request._requestparameter import RequestParameter

from botctl.bot.journal import SendJournal
from botctl.bot.journal_rules import is_numbered
from botctl.bot.leak_guard import LeakGuard
from botctl.bot.scope import active
from botctl.bot.sent import chat_of
from botctl.bot.telegram_request import TransportRequest
from botctl.bot.transport import Transport

App = Application[Any, Any, Any, Any, Any, Any]


class JournaledBot(ExtBot[None]):
    """A bot whose visible calls are recorded before they are made, and answered from the record on a replay."""

    def __init__(self, token: str, base_url: str, transport: Transport, journal: SendJournal, guard: LeakGuard) -> None:
        root = base_url.rstrip("/")
        request = TransportRequest(transport, guard)
        super().__init__(
            token,
            base_url=f"{root}/bot",
            base_file_url=f"{root}/file/bot",
            request=request,
            get_updates_request=request,
        )
        self._journal = journal
        self._guard = guard

    async def perform(self, endpoint: str, data: dict[str, Any], **options: Any) -> Any:
        """Make a call, past the journal."""
        return await super()._do_post(endpoint, dict(data), **options)

    async def _do_post(self, endpoint: str, data: dict[str, Any], **options: Any) -> Any:
        async def perform() -> Any:
            return await self.perform(endpoint, data, **options)

        if is_numbered(endpoint):
            parameters = RequestData(
                [RequestParameter.from_input(key, value) for key, value in data.items()]
            ).parameters
            return await self._journal.call(endpoint, self._guard.without_secrets(parameters), perform)
        try:
            return await self._journal.unnumbered(endpoint, chat_of(data), perform)
        except BadRequest as error:
            if endpoint == "answerCallbackQuery" and _expired(error):
                return True
            raise


class ScopedApplication(Application[Any, Any, Any, Any, Any, Any]):
    """An application that knows which tasks belong to the update being handled."""

    def create_task(self, coroutine: Any, update: object | None = None, *, name: str | None = None) -> Any:
        """As in python-telegram-bot; a task started while an update is handled is part of its handling."""
        task: asyncio.Task[Any] = super().create_task(coroutine, update, name=name)
        scope = active()
        if scope is not None:
            scope.tasks.add(task)
        return task


def build_application(bot: JournaledBot) -> App:
    """An application without an updater, whose first error handler notes what went wrong with an update."""
    builder = ApplicationBuilder().application_class(ScopedApplication).bot(bot).updater(None)
    application: App = builder.build()
    application.add_error_handler(_note_error)
    return application


async def _note_error(update: object, context: CallbackContext[Any, Any, Any, Any]) -> None:
    scope = active()
    if scope is not None and context.error is not None:
        scope.errors.append(context.error)


def _expired(error: BadRequest) -> bool:
    text = str(error).lower()
    return "query is too old" in text or "query id is invalid" in text
