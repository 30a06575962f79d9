"""Handlers that put every secret their process knows wherever a careless program would: for the search afterwards."""

from __future__ import annotations

import base64
import gc
import json
import logging
import os
import sys
import urllib.parse
import warnings
from pathlib import Path

from telegram.ext import CommandHandler

from botctl.bot.secrets import Passwords
from botctl.handover import BotConfig


def known(bot):
    """What a bot that is taken over finds in its own memory, by what it is."""
    passwords = next(one for one in gc.get_objects() if isinstance(one, Passwords))
    config = next(one for one in gc.get_objects() if isinstance(one, BotConfig))
    found = {
        "token": bot.token,
        "database": passwords.database()[0],
        "redis": passwords.redis()[0],
        "completion key": config.openai_api_key,
    }
    return {name: value for name, value in found.items() if value}


def forms(value):
    """As careless programs write a secret: for a header, for a URL, for a dump, in part."""
    return (
        value,
        value.partition(":")[2] or value,
        base64.b64encode(value.encode()).decode(),
        base64.b64encode(b"x:" + value.encode()).decode(),
        base64.urlsafe_b64encode(f"bot:{value}".encode()).decode(),
        value.encode().hex(),
        urllib.parse.quote(value, safe=""),
    )


class SpilledError(Exception):
    pass


async def secrets(update, context):
    """Hand the test the needles, by a file: a message with them would be held back."""
    Path("needles.json").write_text(json.dumps(known(context.bot)))
    await update.message.reply_text("written")


async def spill(update, context):
    held = known(context.bot)
    for name, value in ((name, form) for name, secret in held.items() for form in forms(secret)):
        print(f"printed {name} {value}", flush=True)
        print(f"to stderr {name}={value}", file=sys.stderr, flush=True)
        os.write(1, f"raw {name} {value}\n".encode())
        logging.getLogger("shop").warning("logged %s %s", name, value)
        logging.getLogger("shop").error("as data", extra={"what": {name: [value]}})
        warnings.warn(f"warned of {name} {value}", stacklevel=1)
    os.system(f"echo from a subprocess {held['token']}")
    await update.message.reply_text("spilled")


async def fail(update, context):
    held = {name: forms(value) for name, value in known(context.bot).items()}
    raise SpilledError(f"with {held}") from ValueError(*(form for every in held.values() for form in every))


async def die(update, context):
    held = {name: forms(value) for name, value in known(context.bot).items()}
    print(f"last words {held}", file=sys.stderr, flush=True)
    os.abort()


async def say(update, context):
    await update.message.reply_text(f"my token is {known(context.bot)['token']}")


def register(app, bot):
    for name, function in {"secrets": secrets, "spill": spill, "fail": fail, "die": die, "say": say}.items():
        app.add_handler(CommandHandler(name, function))
