"""A shop that breaks on command, each time in another way."""

from __future__ import annotations

import faulthandler
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from telegram import Update
from telegram.ext import Application, CommandHandler, MessageHandler, filters

App = Application[Any, Any, Any, Any, Any, Any]

HOARD: list[bytearray] = []


def register(app: App, bot: Any) -> None:
    """Answer texts; break on commands."""
    for command in (exit_quietly, call_exit, segfault, hang, hoard, overeat, swallow, babble):
        app.add_handler(CommandHandler(command.__name__, _breaking(command)))
    app.add_handler(MessageHandler(filters.TEXT & ~filters.COMMAND, echo))


def register_with_licence(app: App, bot: Any) -> None:
    """A bot that can't start without its licence."""
    app.post_init = look_for_licence
    app.add_handler(MessageHandler(filters.TEXT, echo))


def register_wrongly(app: App, bot: Any) -> None:
    """Has a mistake of its own."""
    app.add_handler(MessageHandler(filters.TEXT, bot.ecco))


async def look_for_licence(app: App) -> None:
    """Raises FileNotFoundError until somebody has put it there."""
    Path(__file__).with_name("licence.txt").read_text()


async def echo(update: Update, context: Any) -> None:
    """Answer."""
    assert update.message is not None
    await update.message.reply_text(f"echo {update.message.text}")


def exit_quietly() -> None:
    """End without a word."""
    os._exit(0)


def call_exit() -> None:
    """End as a script does."""
    sys.exit(0)


def segfault() -> None:
    """Break as a library in C does."""
    faulthandler._sigsegv()


def hang() -> None:
    """Block the event loop."""
    ask_the_till()


def ask_the_till() -> None:
    """Never ends."""
    time.sleep(600)


def hoard() -> None:
    """Keep 80 MB, and be well otherwise."""
    HOARD.append(bytearray(os.urandom(1000) * 80_000))


def overeat() -> None:
    """Keep all there is."""
    while True:
        HOARD.append(bytearray(4_000_000))


def swallow() -> None:
    """Want more at once than there will ever be, and keep nothing."""
    bytearray(100_000_000_000)


def babble() -> None:
    """Write into every pipe that is not its own."""
    for descriptor in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(descriptor, b"\x00\x00\x00\x05hello")
        except OSError:
            continue


def _breaking(act: Callable[[], None]) -> Callable[[Update, Any], Any]:
    async def break_(update: Update, context: Any) -> None:
        act()

    return break_
