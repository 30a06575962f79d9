"""Imports a developer's handlers and lets them register themselves."""

from __future__ import annotations

import importlib
import inspect
import traceback

from botctl.bot.bot_api import App
from botctl.bot.context import BotContext
from botctl.errors import BotctlError
from botctl.fleet.model import BotSpec


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
        raise HandlersError(
            f"handlers {spec.handlers} can't be loaded: {type(error).__name__}: {error}{place}",
            hint="Correct the module, then run: botctl restart",
        ) from error
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise HandlersError(
            f"{spec.handlers} is a coroutine function; it must be an ordinary one: def register(app, bot)"
        )


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, SyntaxError) or not frames:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"
