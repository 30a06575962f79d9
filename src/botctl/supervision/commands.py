"""Operators' commands: what each means for a bot, and when it is refused. Pure."""

from __future__ import annotations

from collections.abc import Callable

from botctl.supervision.events import Event, Quarantine, Release, Restart, Unwant, Want
from botctl.supervision.model import Record, State

_MEANING: dict[str, Callable[[str], Event]] = {
    "start": lambda reason: Want(),
    "stop": lambda reason: Unwant(reason or "stopped by operator"),
    "restart": lambda reason: Restart(reason or "restarted by operator"),
    "release": lambda reason: Release(),
    "quarantine": lambda reason: Quarantine(reason or "quarantined by operator"),
}

VERBS = frozenset(_MEANING)
"""Commands that concern bots. Each may be repeated: the second of two equal ones changes nothing."""


def meaning(verb: str, reason: str = "") -> Event:
    """The event behind a command. Raises KeyError for one that is not in `VERBS`."""
    return _MEANING[verb](reason)


def concerns_all(verb: str, record: Record, enabled: bool) -> bool:
    """Whether a command for the whole fleet is meant for this bot too. `enabled`: by the fleet file.

    Restarting a fleet starts nobody whom an operator has stopped, and nothing but its name starts a disabled bot.
    """
    if verb == "start":
        return enabled
    return record.wanted if verb == "restart" else True


def refusal(verb: str, name: str, record: Record) -> str | None:
    """Why this command can't be performed on this bot; None when it can."""
    if record.state is State.QUARANTINED and verb in ("start", "restart"):
        return f"{name} is quarantined ({record.reason}); release it instead"
    return None
