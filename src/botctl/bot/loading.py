"""Imports a developer's handlers and lets them register themselves."""

from __future__ import annotations

import importlib
import inspect
import traceback
from pathlib import Path

import structlog

from botctl.bot.bot_api import App
from botctl.bot.context import BotContext
from botctl.errors import BotctlError
from botctl.fleet.model import BotSpec

_log = structlog.get_logger("botctl.bot.loading")


class HandlersError(BotctlError):
    """The handlers named in the fleet file can't be imported or don't register; no restart helps."""


def load_handlers(spec: BotSpec, application: App, context: BotContext) -> None:
    """Call `register(app, bot)` of the handlers, if the bot has any. Raises HandlersError."""
    if spec.handlers is None:
        return
    module_name, _, function_name = spec.handlers.partition(":")
    try:
        module = importlib.import_module(module_name)
        register = getattr(module, function_name)
        result = register(application, context)
    except Exception as error:
        place = _place(error)
        _log.critical("handlers can't be loaded", handlers=spec.handlers, exc_info=error)
        raise HandlersError(
            f"handlers {spec.handlers} can't be loaded: {type(error).__name__}: {error}{place}",
            hint="Correct the module, then run: botctl release",
        ) from error
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise HandlersError(
            f"{spec.handlers} is a coroutine function; it must be an ordinary one: def register(app, bot)"
        )


def _place(error: BaseException) -> str:
    """Where in the developer's own files it happened; nothing when it was not there (no such module, say)."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    own = str(Path(__file__).parents[1])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((own, "<frozen")):
            return f" ({frame.filename}:{frame.lineno})"
    return ""
