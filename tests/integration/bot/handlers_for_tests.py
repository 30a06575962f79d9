"""Handlers of the tests' bots."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, MessageHandler, filters

from botctl.bot import BotContext, Event

App = Application[Any, Any, Any, Any, Any, Any]
TEXT = filters.TEXT & ~filters.COMMAND


def echo(app: App, bot: BotContext) -> None:
    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        await update.message.reply_text(f"echo {update.message.text}")

    app.add_handler(MessageHandler(TEXT, on_text))


def indiscreet(app: App, bot: BotContext) -> None:
    """Says in its errors what users say, and publishes it."""

    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        if "boom" in str(update.message.text):
            raise ValueError(f"can't bear: {update.message.text}")
        if "refused" in str(update.message.text):
            await update.message.reply_text(f"<b>{update.message.text}", parse_mode="HTML")
        if "die" in str(update.message.text):
            await update.message.reply_text(f"echo {update.message.text}")
            await asyncio.sleep(30)
        await bot.publish("order.placed", {"words": update.message.text})
        await update.message.reply_text(f"echo {update.message.text}")

    app.add_handler(MessageHandler(TEXT, on_text))


def thrice(app: App, bot: BotContext) -> None:
    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        for number in range(3):
            await update.message.reply_text(f"{number} {update.message.text}")

    app.add_handler(MessageHandler(TEXT, on_text))


def background(app: App, bot: BotContext) -> None:
    async def later(update: Update) -> None:
        await asyncio.sleep(0.1)
        assert update.message is not None
        await update.message.reply_text("later")

    async def on_text(update: Update, context: Any) -> None:
        app.create_task(later(update), update)

    app.add_handler(MessageHandler(TEXT, on_text, block=False))


def poison(app: App, bot: BotContext) -> None:
    poisons: set[int] = set()

    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        if update.message.text == "boom":
            raise ValueError("this update is poison")
        if update.message.text == "cancelled":
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        if update.message.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if update.message.text == "die when two":
            # The first time, die when both are being worked on; later, at once.
            poisons.add(update.message.chat_id)
            async with bot.engine.connect() as connection:
                sql = "SELECT count(*) FROM inbox WHERE last_error LIKE 'suspected%'"
                before = (await connection.exec_driver_sql(sql)).scalar_one()
            if before or len(poisons) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(30)
        if update.message.text == "slow":
            await asyncio.sleep(0.5)
        await update.message.reply_text(f"echo {update.message.text}")

    app.add_handler(MessageHandler(TEXT, on_text))


def holding(app: App, bot: BotContext) -> None:
    """Answers inside a transaction of its own, as soon as two chats are in theirs."""
    inside: set[int] = set()
    both = asyncio.Event()

    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        async with bot.engine.begin() as connection:
            await connection.exec_driver_sql("SELECT 1")
            inside.add(update.message.chat_id)
            if len(inside) >= 2:
                both.set()
            await both.wait()
            await update.message.reply_text(f"echo {update.message.text}")

    app.add_handler(MessageHandler(TEXT, on_text))


def leaky(app: App, bot: BotContext) -> None:
    async def on_text(update: Update, context: Any) -> None:
        raise ValueError(f"leaked {context.bot.token}")

    app.add_handler(MessageHandler(TEXT, on_text))


def slow_chat(app: App, bot: BotContext) -> None:
    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        if update.message.text == "slow":
            await asyncio.sleep(1.0)
        await update.message.reply_text(f"echo {update.message.text}")

    app.add_handler(MessageHandler(TEXT, on_text))


def diverging(app: App, bot: BotContext) -> None:
    """The second attempt begins with a send to another chat."""

    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        async with bot.engine.connect() as connection:
            attempts = (await connection.exec_driver_sql("SELECT max(attempts) FROM inbox")).scalar_one()
        if attempts > 1:
            await context.bot.send_message(update.message.chat_id + 1, "elsewhere")
        else:
            await update.message.reply_text("first")
        await update.message.reply_text("second")

    app.add_handler(MessageHandler(TEXT, on_text))


def orders(app: App, bot: BotContext) -> None:
    async def order(update: Update, context: Any) -> None:
        """Order something"""
        await bot.publish("order.placed", {"item": " ".join(context.args or []), "chat_id": update.effective_chat.id})
        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("Cancel", callback_data="cancel")]])
        await update.effective_message.reply_text("ordered", reply_markup=keyboard)

    async def pressed(update: Update, context: Any) -> None:
        assert update.callback_query is not None
        await update.callback_query.answer("cancelled")
        await update.callback_query.edit_message_text("cancelled")

    @bot.on_event("order.placed")
    async def placed(event: Event) -> None:
        await app.bot.send_message(event.data["chat_id"], f"news: {event.data['item']} by {event.source}")

    async def begin(application: App) -> None:
        await application.bot.send_message(1, "post_init")

    async def end(application: App) -> None:
        await application.bot.send_message(1, "post_stop")

    app.post_init = begin
    app.post_stop = end
    app.add_handler(CommandHandler("order", order))
    app.add_handler(CallbackQueryHandler(pressed))


def never_done(app: App, bot: BotContext) -> None:
    @bot.on_event("order.placed")
    async def placed(event: Event) -> None:
        await asyncio.Event().wait()


def broken(app: App, bot: BotContext) -> None:
    raise RuntimeError("no such shop")
