"""The bot whose send journal is tried: `say N MARK` is answered in N calls; other text is the assistant's."""

from __future__ import annotations

from typing import Any

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters

from botctl.bot import BotContext


def register(app: Application[Any, Any, Any, Any, Any, Any], bot: BotContext) -> None:
    """One handler."""

    async def say(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
        message = update.effective_message
        if message is None or message.text is None:
            return
        _, parts, mark = message.text.split()
        for number in range(int(parts)):
            await message.reply_text(f"{number} of {parts}: {mark}")

    app.add_handler(MessageHandler(filters.Regex(r"^say \d+ \w+$"), say))
