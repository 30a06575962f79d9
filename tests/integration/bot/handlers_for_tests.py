"""Handlers of the tests' bots."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import (
    Application,
    CallbackQueryHandler,
    CommandHandler,
    ConversationHandler,
    MessageHandler,
    TypeHandler,
    filters,
)

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
        if update.message.text.startswith("cancels itself"):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if update.message.text.endswith("and returns"):
                return
            await asyncio.sleep(0)
        if update.message.text == "exit":
            sys.exit("enough")
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


def keeping(app: App, bot: BotContext) -> None:
    """A form of two questions, and counts, kept with python-telegram-bot's own persistence."""
    app.bot_data.setdefault("started", []).append(len(app.bot_data.get("started", [])))
    app.bot_data["tool"] = asyncio.Lock()

    async def form(update: Update, context: Any) -> int:
        context.user_data["answers"] = ()
        await update.message.reply_text("name?")  # type: ignore[union-attr]
        return 1

    async def name(update: Update, context: Any) -> int:
        assert update.message is not None
        context.user_data["answers"] += (update.message.text,)
        if update.message.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if update.message.text == "fail" and len(context.user_data["answers"]) == 1:
            context.chat_data["tries"] = context.chat_data.get("tries", 0) + 1
            context.bot_data["spoiled"] = True
            if len(ATTEMPTS) < 2:
                ATTEMPTS.append(1)
                raise ValueError("not yet")
        await update.message.reply_text("age?")
        return 2

    async def age(update: Update, context: Any) -> int:
        assert update.message is not None
        kept = context.user_data
        kept["answers"] += (update.message.text,)
        async with context.bot_data["tool"]:
            context.bot_data.setdefault("forms", {})[update.message.chat_id] = kept["answers"]
        await update.message.reply_text(f"{kept['answers']} tries {context.chat_data.get('tries')}")
        return ConversationHandler.END

    states: Any = {1: [MessageHandler(TEXT, name)], 2: [MessageHandler(TEXT, age)]}
    app.add_handler(
        ConversationHandler([CommandHandler("form", form)], states, [], persistent=True, name="form", per_user=True)
    )

    async def tell(update: Update, context: Any) -> None:
        assert update.message is not None
        await update.message.reply_text(f"{context.user_data} {sorted(map(str, context.bot_data))}")

    app.add_handler(CommandHandler("tell", tell))
    app.add_handler(MessageHandler(TEXT, tell))

    async def on_event(event: Event) -> None:
        app.bot_data["heard"] = event.data
        app.user_data[100]["heard"] = True

    bot.on_event("order.*", on_event)


ATTEMPTS: list[int] = []


def recording(app: App, bot: BotContext) -> None:
    """Keeps which updates it has seen, by their ids; in its chat's data the texts in their order."""

    async def see(update: Update, context: Any) -> None:
        context.bot_data.setdefault("seen", {})[update.update_id] = 1
        if context.chat_data is not None and update.effective_message is not None:
            context.chat_data.setdefault("texts", []).append(
                update.effective_message.text or update.effective_message.caption
            )

    app.add_handler(TypeHandler(Update, see))
