"""How many entries of a stream the router asks for at once, so that no bot decides how much it has to hold. Pure.

A reply has no limit in bytes, and what a bot itself appends has none either: an entry may have many megabytes.
"""

from __future__ import annotations

MOST = 100
FIRST = 16
"""Of a stream that isn't known yet: 16 events of the largest allowed size are one megabyte."""

ENOUGH = 1024 * 1024
"""Bytes of one stream in one reply, about."""


class Portions:
    """By bot. Grows while the replies are small, shrinks at once when one is large."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._first = FIRST

    def count(self, bot_id: int) -> int:
        """Entries to ask for."""
        return self._counts.get(bot_id, self._first)

    def took(self, bot_id: int, entries: int, size: int) -> None:
        """So much came. A reply with less than was asked for says nothing about more."""
        count = self.count(bot_id)
        if size > ENOUGH:
            self._counts[bot_id] = max(1, min(count, entries * ENOUGH // size))
        elif entries >= count and size < ENOUGH // 4:
            self._counts[bot_id] = min(MOST, count * 2)

    def careful(self) -> None:
        """A read has failed, perhaps because its reply was too large for the server: begin with one entry each."""
        self._counts.clear()
        self._first = 1
