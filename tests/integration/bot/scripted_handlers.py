"""Handlers that do what a message tells them, letter by letter; each visible thing says whose doing it is.

`s` sends, `e` edits the message sent last, `d` deletes it, `o` sends to another chat, `b` does so from a task beside,
`p` publishes, `y` lets others run, `f` fails at the first attempt that comes so far. `c` counts in
what is kept for the chat and for the user, `r` tells how far. A message is `name:letters`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from telegram import Message, Update
from telegram.ext import Application, MessageHandler, filters

from botctl.bot import BotContext

ELSEWHERE = 900
"""Chat that `o` sends to."""

failed: set[tuple[int, str, int]] = set()
"""What has failed already, by bot, message and place; it outlives every incarnation."""


class IntendedError(Exception):
    """What `f` raises."""


def register(app: Application[Any, Any, Any, Any, Any, Any], bot: BotContext) -> None:
    """Obey every text with a colon."""

    async def on_text(update: Update, context: Any) -> None:
        assert update.message is not None
        assert update.message.text is not None
        name, _, letters = update.message.text.partition(":")
        last: Message | None = None
        for place, letter in enumerate(letters):
            label = f"{name}.{place}"
            match letter:
                case "s":
                    last = await update.message.reply_text(label)
                case "e" if last is not None:
                    await last.edit_text(f"{last.text} {label}")
                case "d" if last is not None:
                    await last.delete()
                    last = None
                case "o":
                    await context.bot.send_message(ELSEWHERE, label)
                case "p":
                    await bot.publish("script.played", {"label": label})
                case "b":
                    app.create_task(context.bot.send_message(ELSEWHERE, label), update)
                case "c":
                    for kept in (context.chat_data, context.user_data):
                        kept["count"] = kept.get("count", 0) + 1
                case "r":
                    counts = [kept.get("count", 0) for kept in (context.chat_data, context.user_data)]
                    last = await update.message.reply_text(f"{label} {counts}")
                case "f" if (bot.bot_id, name, place) not in failed:
                    failed.add((bot.bot_id, name, place))
                    raise IntendedError(label)
                case _:
                    await asyncio.sleep(0)

    app.add_handler(MessageHandler(filters.Regex("^[a-z0-9]+:[a-z]*$"), on_text))
