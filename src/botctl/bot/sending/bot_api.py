"""python-telegram-bot's `Bot` and `Application`, with every call going through the send journal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from telegram import InputFile, Message, TelegramObject, Update
from telegram.ext import Application, ApplicationBuilder, CallbackContext, ExtBot, JobQueue
from telegram.request import RequestData
from telegram.request._requestparameter import RequestParameter

from botctl.bot.handling.scope import active, current
from botctl.bot.keeping.drafts import NotLoadedError
from botctl.bot.keeping.persistence import ContextPersistence, KeepingApplication
from botctl.bot.sending.journal import Asked, SendJournal
from botctl.bot.sending.leak_guard import LeakGuard
from botctl.bot.sending.methods import is_numbered, items_of
from botctl.bot.sending.sent import place_of
from botctl.bot.sending.telegram_request import TransportRequest
from botctl.bot.sending.transport import Transport
from botctl.bot.tasks import stay_in


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
        self._home: asyncio.AbstractEventLoop | None = None

    async def initialize(self) -> None:
        """As in python-telegram-bot; from now on it is called from this event loop only."""
        self._home = asyncio.get_running_loop()
        await super().initialize()

    async def perform(self, endpoint: str, data: dict[str, Any], **options: Any) -> Any:
        """Make a call, past the journal."""
        return await super()._do_post(endpoint, dict(data), **options)

    async def _do_post(self, endpoint: str, data: dict[str, Any], **options: Any) -> Any:
        stay_in(self._home)
        read_files(data)

        async def perform(chat: int | None) -> Any:
            return await self.perform(endpoint, data if chat is None else moved(data, chat), **options)

        place, items, paid = place_of(data), items_of(endpoint, data), bool(data.get("allow_paid_broadcast"))
        if not is_numbered(endpoint):
            return await self._journal.unnumbered(Asked(endpoint, {}, place, items), perform)
        parameters = RequestData([RequestParameter.from_input(key, value) for key, value in data.items()]).parameters
        return await self._journal.call(
            Asked(endpoint, self._guard.without_secrets(parameters), place, items, paid), perform
        )


class OutsideJobQueue(JobQueue[Any]):
    """python-telegram-bot's own timers, kept in memory: what they send belongs to no update, whoever has set them."""

    @staticmethod
    async def job_callback(job_queue: JobQueue[Any], job: Any) -> None:
        """Run a job outside of any scope; the task it runs in may have been begun inside of one."""
        current.set(None)
        if isinstance(job_queue.application, ScopedApplication):
            await job_queue.application.prepare_timer(job)
        await JobQueue.job_callback(job_queue, job)


class ScopedApplication(KeepingApplication):
    """An application that knows which tasks belong to the update being handled."""

    def take_along(self, old: int, new: int) -> None:
        """A group has become a supergroup: what handlers keep for the chat is kept for the new id.

        Within a handling only, and committed with it; otherwise the message that Telegram sends of it comes to it.
        """
        if active() is None:
            return
        with suppress(NotLoadedError):  # the message that Telegram sends of it finds both loaded
            self.migrate_chat_data(old_chat_id=old, new_chat_id=new)

    def take_along_with(self, update: Update) -> None:
        """The same, if the update is such a message."""
        message = update.effective_message
        if message is not None and message.migrate_to_chat_id is not None:
            self.take_along(message.chat_id, message.migrate_to_chat_id)
        if message is not None and message.migrate_from_chat_id is not None:
            self.take_along(message.migrate_from_chat_id, message.chat_id)

    def migrate_chat_data(
        self, message: Message | None = None, old_chat_id: int | None = None, new_chat_id: int | None = None
    ) -> None:
        """As in python-telegram-bot; but it has been done already when the update comes, and then does nothing."""
        old = (message.migrate_from_chat_id or message.chat_id) if message is not None else old_chat_id
        if old is None or old in self.chat_data:
            super().migrate_chat_data(message, old_chat_id, new_chat_id)

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
    builder = (
        ApplicationBuilder()
        .application_class(ScopedApplication)
        .bot(bot)
        .updater(None)
        .persistence(ContextPersistence())
    )
    with suppress(RuntimeError):  # APScheduler is not installed
        builder = builder.job_queue(OutsideJobQueue())
    application = builder.build()
    assert isinstance(application, ScopedApplication)
    application.add_error_handler(_note_error)
    return application


async def _note_error(update: object, context: CallbackContext[Any, Any, Any, Any]) -> None:
    scope = active()
    if scope is not None and context.error is not None:
        scope.errors.append(context.error)


def moved(data: Mapping[str, Any], chat: int) -> dict[str, Any]:
    """A call for a group as it is made to the supergroup that it has become: messages have other ids there."""
    return {**{key: value for key, value in data.items() if key != "reply_parameters"}, "chat_id": chat}


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
