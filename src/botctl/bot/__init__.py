"""Inside a bot process: poller, inbox lanes, send journal, handlers, assistant.

For developers of handlers: `BotContext` is what `register(app, bot)` is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botctl.bot.context import BotContext as BotContext
    from botctl.bot.jobs.rules import Job as Job
    from botctl.bus.events import Event as Event

__all__ = ["BotContext", "Event", "Job"]


def __getattr__(name: str) -> Any:
    # Loaded on demand, so that naming this package costs a slim process nothing.
    if name == "BotContext":
        from botctl.bot.context import BotContext

        return BotContext
    if name == "Event":
        from botctl.bus.events import Event

        return Event
    if name == "Job":
        from botctl.bot.jobs.rules import Job

        return Job
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
