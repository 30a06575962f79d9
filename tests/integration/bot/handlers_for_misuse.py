"""Handlers that do what they shouldn't; whoever writes to the same bot must not notice."""

from __future__ import annotations

import asyncio
from typing import Any

from telegram import Update
from telegram.ext import Application, MessageHandler, filters

from botctl.bot import BotContext

App = Application[Any, Any, Any, Any, Any, Any]


def other_loops(app: App, bot: BotContext) -> None:
    """`thread` answers from a thread with an event loop of its own; everything else is echoed."""

    async def on_text(update: Update, context: Any) -> None:
        message = update.effective_message
        assert message is not None
        if str(message.text).startswith("thread"):
            await asyncio.to_thread(asyncio.run, message.reply_text("from a thread"))
        await message.reply_text(f"echo {message.text}")

    app.add_handler(MessageHandler(filters.TEXT, on_text))


def odd_texts(app: App, bot: BotContext) -> None:
    """Answers with a NUL, which JSON has and PostgreSQL refuses; or with half a character, which nothing takes."""

    async def on_text(update: Update, context: Any) -> None:
        assert update.effective_message is not None
        half = update.effective_message.text == "half"
        if update.effective_message.text == "raise":
            context.user_data["\ud800"] = "\x00"
            raise ValueError("\ud800 and \x00")
        await update.effective_message.reply_text("a\ud800b" if half else "a\x00b")

    app.add_handler(MessageHandler(filters.TEXT, on_text))


def late_jobs(app: App, bot: BotContext) -> None:
    """`tick` says so."""

    async def tick(job: Any) -> None:
        await app.bot.send_message(100, "tick")

    bot.on_job("tick", tick)

    async def on_text(update: Update, context: Any) -> None:
        await bot.schedule("tick", after=0)

    app.add_handler(MessageHandler(filters.TEXT, on_text))
