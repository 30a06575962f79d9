"""Handlers that put every secret their process knows wherever a careless program would: for the search afterwards."""

from __future__ import annotations

import gc
import json
import logging
import os
import sys
import warnings
from pathlib import Path

from telegram.ext import CommandHandler

from botctl.bot.secrets import Passwords
from botctl.handover import BotConfig


def known(bot):
    """What a bot that is taken over finds in its own memory, by what it is."""
    passwords = next(one for one in gc.get_objects() if isinstance(one, Passwords))
    config = next(one for one in gc.get_objects() if isinstance(one, BotConfig))
    return {
        "token": bot.token,
        "database": passwords.database()[0],
        "redis": passwords.redis()[0],
        "completion key": config.openai_api_key,
    }


class SpilledError(Exception):
    pass


async def secrets(update, context):
    """Hand the test the needles, by a file: a message with them would be held back."""
    Path("needles.json").write_text(json.dumps(known(context.bot)))
    await update.message.reply_text("written")


async def spill(update, context):
    held = known(context.bot)
    for name, value in held.items():
        print(f"printed {name} {value}", flush=True)
        print(f"to stderr {name}={value}", file=sys.stderr, flush=True)
        os.write(1, f"raw {name} {value}\n".encode())
        logging.getLogger("shop").warning("logged %s %s", name, value)
        logging.getLogger("shop").error("as data", extra={"what": {name: [value]}})
        warnings.warn(f"warned of {name} {value}", stacklevel=1)
    os.system(f"echo from a subprocess {held['token']}")
    await update.message.reply_text("spilled")


async def fail(update, context):
    held = known(context.bot)
    raise SpilledError(f"with {held}") from ValueError(*held.values())


async def die(update, context):
    held = known(context.bot)
    print(f"last words {held}", file=sys.stderr, flush=True)
    os.abort()


async def say(update, context):
    await update.message.reply_text(f"my token is {known(context.bot)['token']}")


def register(app, bot):
    for name, function in {"secrets": secrets, "spill": spill, "fail": fail, "die": die, "say": say}.items():
        app.add_handler(CommandHandler(name, function))
