"""Errors without their words, for the log of a bot that keeps messages sealed: an exception may quote what a user said.

What is left is where it happened, and of which class it was. What a bot prints by itself is not looked at. Pure.
"""

from __future__ import annotations

import traceback
from collections.abc import MutableMapping
from typing import Any

_WORDS = ("error", "reason", "detail")
"""Keys of log lines that hold an exception's words, as `Class: words`."""


def hush(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave of such a value the class only."""
    for key in _WORDS:
        value = event.get(key)
        if isinstance(value, str):
            event[key] = value.partition(": ")[0]
    return event


def places(error: BaseException) -> str:
    """A traceback, with those it came from, in which no exception says anything."""
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = "".join(traceback.format_tb(current.__traceback__))
        parts.append(f"Traceback (most recent call last):\n{frames}{type(current).__qualname__}: …\n")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\nwhich came from\n\n".join(parts)
