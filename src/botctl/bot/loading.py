"""Imports a developer's handlers and lets them register themselves."""

from __future__ import annotations

import importlib
import inspect
import sysconfig
import traceback
from pathlib import Path

import structlog

from botctl.bot.context import BotContext
from botctl.bot.sending.bot_api import App
from botctl.errors import BotctlError
from botctl.fleet.model import BotSpec

_log = structlog.get_logger("botctl.bot.loading")

_INSTALLED = tuple({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
_NOT_THEIRS = (
    str(Path(__file__).parents[1]),
    sysconfig.get_path("stdlib"),
    sysconfig.get_path("platstdlib"),
    "<frozen",
)


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
    except MemoryError:
        raise  # what it needs, not how it is written
    except (Exception, SystemExit) as error:
        place = place_of(error)
        _log.critical("handlers can't be loaded", handlers=spec.handlers, exc_info=error)
        raise HandlersError(
            f"handlers {spec.handlers} can't be loaded: {_described(error)}{place}",
            hint="Correct the module, then run: botctl release",
        ) from error
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise HandlersError(
            f"{spec.handlers} is a coroutine function; it must be an ordinary one: def register(app, bot)"
        )


def _described(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"they call sys.exit({'' if error.code is None else repr(error.code)})"
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"  # the place follows
    return f"{type(error).__name__}: {error}"


def place_of(error: BaseException) -> str:
    """Where in the developer's own files it happened; nothing when it was not there (no such module, say)."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    fallback = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith(_NOT_THEIRS) and not frame.filename.startswith(_INSTALLED):
            continue
        place = f" ({frame.filename}:{frame.lineno})"
        if not frame.filename.startswith(_INSTALLED):
            return place
        fallback = fallback or place
    return fallback
