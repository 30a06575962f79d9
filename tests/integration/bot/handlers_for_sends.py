"""Handlers of the tests about sends: albums, moved groups, jobs."""

from __future__ import annotations

import asyncio
from typing import Any

from telegram import InputMediaPhoto, Update
from telegram.ext import Application, CallbackQueryHandler, MessageHandler, filters

from botctl.bot import BotContext

App = Application[Any, Any, Any, Any, Any, Any]
TEXT = filters.TEXT & ~filters.COMMAND


def counting(app: App, bot: BotContext) -> None:
    """Counts in chat_data."""

    async def on_text(update: Update, context: Any) -> None:
        assert update.effective_message is not None
        context.chat_data["count"] = context.chat_data.get("count", 0) + 1
        await update.effective_message.reply_text(f"number {context.chat_data['count']}")

    app.add_handler(MessageHandler(TEXT, on_text))


def everything(app: App, bot: BotContext) -> None:
    """Makes calls of many kinds, then waits once; says what it was given back."""

    async def on_text(update: Update, context: Any) -> None:
        message = update.effective_message
        assert message is not None
        sent = await message.reply_photo(b"\xff\xd8 a picture", caption="look")
        album = await message.reply_media_group([InputMediaPhoto(b"1"), InputMediaPhoto(b"2", caption="two")])
        copied = await message.copy(message.chat_id)
        pinned = await sent.pin()
        edited = await sent.edit_caption("look here")
        deleted = await album[1].delete()
        bot.log.info(
            "made",
            kinds=[type(one).__name__ for one in (sent, album[0], copied, pinned, edited, deleted)],
            ids=[sent.message_id, *(one.message_id for one in album), copied.message_id],
            bound=sent.get_bot() is context.bot and album[1].get_bot() is context.bot,
        )
        await message.reply_text("done")

    app.add_handler(MessageHandler(TEXT, on_text))


def pressed(app: App, bot: BotContext) -> None:
    async def on_text(update: Update, context: Any) -> None:
        assert update.effective_message is not None
        await asyncio.gather(*(update.effective_message.reply_text(str(number)) for number in range(4)))

    async def on_press(update: Update, context: Any) -> None:
        assert update.callback_query is not None
        await update.callback_query.answer()

    app.add_handler(MessageHandler(TEXT, on_text))
    app.add_handler(CallbackQueryHandler(on_press))


def timers(app: App, bot: BotContext) -> None:
    """`once`, `often`, `fail` and `unknown` plan jobs; each job says its name and data."""

    async def on_text(update: Update, context: Any) -> None:
        message = update.effective_message
        assert message is not None
        word = str(message.text)
        if word == "once":
            await bot.schedule("remind:me", after=0.2, chat_id=message.chat_id, data={"word": "now"})
        if word == "often":
            await bot.schedule("tick", every=1, data={"chat": message.chat_id})
        if word == "stop":
            await bot.unschedule("tick")
        if word == "fail":
            await bot.schedule("remind:never", after=0, chat_id=message.chat_id)
            raise ValueError("no job of a handling that failed")
        if word == "unknown":
            await bot.schedule("nobody", after=0)
        if word == "list":
            await message.reply_text(", ".join(job.name for job in await bot.scheduled()) or "none")

    @bot.on_job("remind")
    async def remind(job: Any) -> None:
        await app.bot.send_message(job.chat_id, f"{job.name} {job.data['word']}")
        await app.bot.send_message(job.chat_id, "that was all")

    @bot.on_job("tick")
    async def tick(job: Any) -> None:
        await app.bot.send_message(job.data["chat"], f"tick {'late' if job.late > 0.9 else 'in time'}")

    app.add_handler(MessageHandler(TEXT, on_text))
