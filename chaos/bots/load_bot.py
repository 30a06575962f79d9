"""The bots under load: each kind of message leads to sends of another kind; every part of an answer says what it is.

`mNx K/P` is part K of P of the answer to message N. What is not answered here, the assistant answers.
"""

from __future__ import annotations

from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import Application, CallbackQueryHandler, ContextTypes, MessageHandler, filters

from botctl.bot import BotContext, Event
from botctl.bot.handling.scope import active

Context = ContextTypes.DEFAULT_TYPE


def register(app: Application[Any, Any, Any, Any, Any, Any], bot: BotContext) -> None:
    """One handler for each kind of message, one for events of other bots."""

    async def note(update: Update, context: Context) -> None:
        await _message(update).reply_text(f"{_mark(update)} 1/1")

    async def calls(update: Update, context: Context) -> None:
        for number in (1, 2, 3):
            await _message(update).reply_text(f"{_mark(update)} {number}/3")

    async def parts(update: Update, context: Context) -> None:
        # As the assistant does it: planned in one commit with the end of the update, and sent then.
        scope = active()
        assert scope is not None
        for number in (1, 2, 3):
            scope.reply("system", f"{_mark(update)} {number}/3")

    async def edit(update: Update, context: Context) -> None:
        sent = await _message(update).reply_text(f"{_mark(update)} 1/2")
        await sent.edit_text(f"{_mark(update)} 2/2")

    async def button(update: Update, context: Context) -> None:
        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("press", callback_data="press")]])
        await _message(update).reply_text(f"{_mark(update)} 1/1", reply_markup=keyboard)

    async def pressed(update: Update, context: Context) -> None:
        query = update.callback_query
        assert query is not None
        assert update.effective_chat is not None
        await query.answer("pressed")
        await context.bot.send_message(update.effective_chat.id, f"{query.data} 1/1")

    async def pass_on(update: Update, context: Context) -> None:
        _, target, chat, mark = str(_message(update).text).split()
        await bot.publish(f"load.passed.{target}", {"chat_id": int(chat), "mark": mark})

    @bot.on_event(f"load.passed.{bot.name}")
    async def passed(event: Event) -> None:
        await app.bot.send_message(event.data["chat_id"], f"{event.data['mark']} 1/1")

    for name, handler in (("note", note), ("calls", calls), ("parts", parts), ("edit", edit), ("button", button)):
        app.add_handler(MessageHandler(filters.Regex(rf"^{name} m\d+x$"), handler))
    app.add_handler(MessageHandler(filters.Regex(r"^pass \S+ \d+ m\d+x$"), pass_on))
    app.add_handler(CallbackQueryHandler(pressed))


def _message(update: Update) -> Any:
    return update.effective_message


def _mark(update: Update) -> str:
    return str(_message(update).text).split()[-1]
