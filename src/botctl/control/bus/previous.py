"""Redis passwords of before, which bots may still log in with for a while."""

from __future__ import annotations

import time

PREVIOUS_FOR = 60.0
"""Seconds for which a bot may still log in with the password it had before."""


class PreviousPasswords:
    """SHA-256 of the password before, by bot."""

    def __init__(self) -> None:
        self._hashes: dict[int, tuple[str, float]] = {}
        """And until when it is valid."""

    def note(self, bot_id: int, sha256: str) -> None:
        """This one was the bot's until now; empty: none was."""
        self._hashes.pop(bot_id, None)
        if sha256:
            self._hashes[bot_id] = (sha256, time.monotonic() + PREVIOUS_FOR)

    def accepted(self, bot_id: int, sha256: str) -> list[str]:
        """All that the bot may log in with, if this is its password."""
        previous = self._hashes.get(bot_id)
        return [sha256] if previous is None else [sha256, previous[0]]

    def withdraw(self) -> set[int]:
        """Forget those whose time is over; whose they were."""
        now = time.monotonic()
        over = {bot_id for bot_id, (_, until) in self._hashes.items() if until <= now}
        for bot_id in over:
            del self._hashes[bot_id]
        return over
