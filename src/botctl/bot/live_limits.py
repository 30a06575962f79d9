"""Limits that may change while the bot runs; whoever keeps to one reads it here each time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class LiveLimits:
    """`concurrent_chats` that are worked on at once; `attempts` at an update before it becomes a dead letter."""

    concurrent_chats: int
    attempts: int

    def __post_init__(self) -> None:
        self._lent = 0

    @property
    def places(self) -> int:
        """Handlings that may be under way now: one that only waits for another bot's reply lends its place."""
        return self.concurrent_chats + self._lent

    @contextmanager
    def lending(self) -> Iterator[None]:
        """While this handling waits, another one may have its place."""
        self._lent += 1
        try:
            yield
        finally:
            self._lent -= 1

    def adjust(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """Take over those of the settings that are limits; the ones that changed. Anything that is none is left."""
        changed: dict[str, int] = {}
        for limit in fields(self):
            value = settings.get(limit.name)
            if isinstance(value, int) and value >= 1 and value != getattr(self, limit.name):
                setattr(self, limit.name, value)
                changed[limit.name] = value
        return changed
