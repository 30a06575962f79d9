"""Users that are set aside for a time because they flood, as threat detection has found. Pure: time is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TELL_EVERY = 60.0
"""Seconds between lines in the log about one user: who floods must not flood the log as well."""


@dataclass(slots=True)
class _Tally:
    """Updates that no line has told of yet, and when the last line was."""

    told_at: float
    untold: int = 0


class Ignored:
    """By Telegram user id; each until a time, in seconds since the epoch."""

    def __init__(self, users: Mapping[str, float]) -> None:
        self._users: dict[int, float] = {}
        self._tallies: dict[int, _Tally] = {}
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

    def is_first(self, user_id: int, now: float) -> bool:
        """Counts an update that is set aside; whether it is the first of this user's."""
        tally = self._tallies.get(user_id)
        if tally is None:
            self._tallies[user_id] = _Tally(now)
            return True
        tally.untold += 1
        return False

    def due(self, now: float) -> list[tuple[int, int]]:
        """Users and how many more of their updates were set aside, each once a minute, and when it has ended."""
        found = []
        for user_id, tally in list(self._tallies.items()):
            ended = not self.holds(user_id, now)
            if ended:
                del self._tallies[user_id]
            if tally.untold and (ended or now - tally.told_at >= TELL_EVERY):
                found.append((user_id, tally.untold))
                tally.told_at, tally.untold = now, 0
        return found

    def __len__(self) -> int:
        return len(self._users)
