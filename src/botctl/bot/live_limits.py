"""Limits that may change while the bot runs; whoever keeps to one reads it here each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass
class LiveLimits:
    """`concurrent_chats` that are worked on at once; `attempts` at an update before it becomes a dead letter."""

    concurrent_chats: int
    attempts: int

    def adjust(self, settings: Mapping[str, Any]) -> dict[str, int]:
        """Take over those of the settings that are limits; the ones that changed. Anything that is none is left."""
        changed: dict[str, int] = {}
        for limit in fields(self):
            value = settings.get(limit.name)
            if isinstance(value, int) and value >= 1 and value != getattr(self, limit.name):
                setattr(self, limit.name, value)
                changed[limit.name] = value
        return changed
