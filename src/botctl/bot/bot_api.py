"""python-telegram-bot's `Bot` and `Application`, with every call going through the send journal."""

from __future__ import annotations

import asyncio
from typing import Any

from telegram import InputFile, TelegramObject
from telegram.ext import Application, ApplicationBuilder, CallbackContext, ExtBot
from telegram.request import RequestData
from telegram.request._requestparameter import RequestParameter

from botctl.bot.journal import Asked, SendJournal
from botctl.bot.leak_guard import LeakGuard
from botctl.bot.methods import is_numbered, items_of
from botctl.bot.scope import active
from botctl.bot.sent import place_of
from botctl.bot.telegram_request import TransportRequest
from botctl.bot.transport import Transport


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
        read_files(data)

        async def perform(chat: int | None) -> Any:
            return await self.perform(endpoint, data if chat is None else {**data, "chat_id": chat}, **options)

        place, items, paid = place_of(data), items_of(endpoint, data), bool(data.get("allow_paid_broadcast"))
        if not is_numbered(endpoint):
            return await self._journal.unnumbered(Asked(endpoint, {}, place, items), perform)
        parameters = RequestData([RequestParameter.from_input(key, value) for key, value in data.items()]).parameters
        return await self._journal.call(
            Asked(endpoint, self._guard.without_secrets(parameters), place, items, paid), perform
        )


class ScopedApplication(Application[Any, Any, Any, Any, Any, Any]):
    """An application that knows which tasks belong to the update being handled."""

    def take_along(self, old: int, new: int) -> None:
        """A group has become a supergroup: what handlers keep for the chat is kept for the new id."""
        if old in self.chat_data and new not in self.chat_data:
            self.migrate_chat_data(old_chat_id=old, new_chat_id=new)

    def create_task(self, coroutine: Any, update: object | None = None, *, name: str | None = None) -> Any:
        """As in python-telegram-bot; a task started while an update is handled is part of its handling."""
        task: asyncio.Task[Any] = super().create_task(coroutine, update, name=name)
        scope = active()
        if scope is not None:
            scope.tasks.add(task)
        return task


App = Application[Any, Any, Any, Any, Any, Any]


def build_application(bot: JournaledBot) -> ScopedApplication:
    """An application without an updater, whose first error handler notes what went wrong with an update."""
    builder = ApplicationBuilder().application_class(ScopedApplication).bot(bot).updater(None)
    application = builder.build()
    assert isinstance(application, ScopedApplication)
    application.add_error_handler(_note_error)
    return application


async def _note_error(update: object, context: CallbackContext[Any, Any, Any, Any]) -> None:
    scope = active()
    if scope is not None and context.error is not None:
        scope.errors.append(context.error)


def read_files(value: Any) -> None:
    """Read files that were given open: a call that is made again sends them from their beginning (50 MB at most)."""
    if isinstance(value, InputFile):
        if not isinstance(value.input_file_content, bytes):
            value.input_file_content = value.input_file_content.read()
    elif isinstance(value, dict):
        for item in value.values():
            read_files(item)
    elif isinstance(value, list | tuple):
        for item in value:
            read_files(item)
    elif isinstance(value, TelegramObject) and type(value).__name__.startswith("Input"):
        for name in _WITH_FILES:
            read_files(getattr(value, name, None))


_WITH_FILES = ("animation", "cover", "media", "photo", "sticker", "thumbnail", "video")
