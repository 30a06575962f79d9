"""The bot that `echo.py` compares with: `echo_peer.py BASE_URL TOKEN`.

A bare python-telegram-bot with its own Updater and everything as it comes: updates one after another, nothing kept.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters


async def echo(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    """Say it again."""
    message = update.effective_message
    assert message is not None
    await message.reply_text(message.text or "")


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    builder: Any = Application.builder().token(sys.argv[2]).base_url(f"{sys.argv[1].rstrip('/')}/bot")
    application = builder.build()
    application.add_handler(MessageHandler(filters.TEXT, echo))
    application.run_polling()
