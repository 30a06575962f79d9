"""Handlers of the chaos fleet's first bot: notes, menus and media are answered here, other text by the assistant."""

from __future__ import annotations

from typing import Any

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import Application, CallbackQueryHandler, ContextTypes, MessageHandler, filters

from botctl.bot import BotContext

App = Application[Any, Any, Any, Any, Any, Any]
Context = ContextTypes.DEFAULT_TYPE


def register(app: App, bot: BotContext) -> None:
    """Add them."""
    app.add_handler(MessageHandler(filters.Regex("^menu "), menu))
    app.add_handler(MessageHandler(filters.Regex("^note ") | filters.CaptionRegex("^note "), note))
    app.add_handler(CallbackQueryHandler(pressed))


async def note(update: Update, context: Context) -> None:
    """Say what was noted."""
    message = update.effective_message
    if message is not None:
        await message.reply_text(f"noted: {message.text or message.caption}")


async def menu(update: Update, context: Context) -> None:
    """Offer a button."""
    message = update.effective_message
    if message is not None:
        keyboard = InlineKeyboardMarkup([[InlineKeyboardButton("this one", callback_data="this")]])
        await message.reply_text(f"choose: {message.text}", reply_markup=keyboard)


async def pressed(update: Update, context: Context) -> None:
    """Answer the button."""
    if update.callback_query is not None:
        await update.callback_query.answer("chosen")
