"""The bots of the fleet that is harmed. They stand beside the fleet file; a secret command makes one misbehave.

`note …` is answered here, other text by the assistant. `/attack KIND NOT_AFTER MARK`: an incarnation that was born
after NOT_AFTER only says that the attack is over, so that a replayed update doesn't kill the next process too.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import chaos_attacks
from telegram import Update
from telegram.ext import Application, CommandHandler, ContextTypes, MessageHandler, filters

from botctl.bot import BotContext

App = Application[Any, Any, Any, Any, Any, Any]
Context = ContextTypes.DEFAULT_TYPE

CRASH_AFTER = 0.3


class BrokenError(Exception):
    """What a handler raises that was told to."""


def register(app: App, bot: BotContext) -> None:
    """Notes, attacks, and the two ways of being hopeless, each told by a file beside the fleet file."""
    born = time.time()
    beside = Path(__file__).parent
    if (beside / f"broken-{bot.name}").exists():
        raise BrokenError("these handlers can't be registered")
    if (beside / f"crashing-{bot.name}").exists():
        threading.Timer(CRASH_AFTER, os._exit, (5,)).start()

    async def note(update: Update, context: Context) -> None:
        if update.effective_message is not None:
            await update.effective_message.reply_text(f"noted: {update.effective_message.text}")

    async def attack(update: Update, context: Context) -> None:
        kind, not_after, mark = context.args or ("", "0", "")
        if update.effective_message is None:
            return
        if kind == "over" or born > float(not_after):
            await update.effective_message.reply_text(f"{mark} is over")
            return
        await chaos_attacks.ATTACKS[kind](mark)
        await update.effective_message.reply_text(f"{mark} begun")

    app.add_handler(CommandHandler("attack", attack))
    app.add_handler(MessageHandler(filters.Regex("^note "), note))
