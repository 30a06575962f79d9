"""Users that are set aside for a time because they flood, as threat detection has found. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Ignored:
    """By Telegram user id; each until a time, in seconds since the epoch."""

    def __init__(self, users: Mapping[str, float]) -> None:
        self._users: dict[int, float] = {}
        self.take(users)

    def take(self, users: Any) -> bool:
        """These, and no others; whether that is a change. What can't be understood changes nothing."""
        try:
            fresh = {int(user_id): float(until) for user_id, until in users.items()}
        except (AttributeError, TypeError, ValueError):
            return False
        changed = fresh != self._users
        self._users = fresh
        return changed

    def holds(self, user_id: int | None, now: float) -> bool:
        """Whether an update of this user is set aside. Updates without a user never are."""
        return user_id is not None and self._users.get(user_id, 0.0) > now

    def __len__(self) -> int:
        return len(self._users)
