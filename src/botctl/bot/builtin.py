"""The commands every bot has unless its developer has registered them: /start, /help, /reset; and its command list.

They are the last handlers of group 0, as the assistant is: whatever the developer put there comes first.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import structlog
from telegram import BotCommand, Update
from telegram.error import TelegramError
from telegram.ext import CallbackContext, CommandHandler

from botctl.bot.faults import brief
from botctl.bot.handling.scope import active
from botctl.bot.sending.bot_api import App

_log = structlog.get_logger("botctl.bot.builtin")

_Context = CallbackContext[Any, Any, Any, Any]

_DESCRIPTIONS = {"start": "Say hello", "help": "What I can do", "reset": "Begin a new conversation"}


def add_builtin_commands(application: App, *, has_assistant: bool) -> None:
    """Register the built-in commands that are still free."""
    taken = set(command_names(application))

    async def start(update: Update, context: _Context) -> None:
        name = update.effective_user.first_name if update.effective_user else ""
        greeting = f"Hello {name}!" if name else "Hello!"
        more = "Just write to me." if has_assistant else "Send /help to see what I can do."
        _reply(f"{greeting} {more}")

    async def help_(update: Update, context: _Context) -> None:
        lines = [f"/{name} – {text}" for name, text in command_list(application)]
        _reply("\n".join((["Just write to me, or use a command:"] if has_assistant else []) + lines))

    async def reset(update: Update, context: _Context) -> None:
        scope = active()
        if scope is not None:
            scope.reset = True
        _reply("Let's begin anew. I have put our conversation aside.")

    for name, callback in (("start", start), ("help", help_), ("reset", reset)):
        if name not in taken:
            application.add_handler(CommandHandler(name, callback))


def command_names(application: App) -> Iterator[str]:
    """All commands of all groups, in order."""
    for handler in _command_handlers(application):
        yield from sorted(handler.commands)


def command_list(application: App) -> list[tuple[str, str]]:
    """Commands with a description: the first line of the callback's docstring, or the command's own name."""
    commands: dict[str, str] = {}
    for handler in _command_handlers(application):
        document = inspect.getdoc(handler.callback)
        for name in sorted(handler.commands):
            described = document.splitlines()[0].rstrip(".") if document else _DESCRIPTIONS.get(name, name.capitalize())
            commands.setdefault(name, described[:256])
    return list(commands.items())


async def publish_commands(application: App) -> None:
    """Tell Telegram the command list; a failure does no harm."""
    commands = [BotCommand(name, text) for name, text in command_list(application)[:100]]
    try:
        await application.bot.set_my_commands(commands)
    except TelegramError as error:
        _log.warning("command list not set", error=brief(error))


def _command_handlers(application: App) -> Iterator[CommandHandler[Any, Any]]:
    for handlers in application.handlers.values():
        for handler in handlers:
            if isinstance(handler, CommandHandler):
                yield handler


def _reply(text: str) -> None:
    scope = active()
    if scope is not None:
        scope.reply("system", text)
