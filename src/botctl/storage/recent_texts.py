"""Sealed texts that were stored or opened lately, and what they say: a conversation is read anew at each of its turns.

A sealed text is of one moment (its nonce is random), so what it says never changes. Never holds more than its room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

ROOM = 400_000
"""Characters of sealed text: 1,000 ordinary messages, the last 20 of 50 conversations; 0.6 MB with what they say."""


class RecentTexts:
    """Of one column of one bot. The oldest makes room; what is still read then is opened once more."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._taken = 0
        self._texts: OrderedDict[str, str] = OrderedDict()
        self.get: Callable[[str], str | None] = self._texts.get
        """What it says, if it is known. Asked for every message that is read, so it is the dictionary's own."""

    def __len__(self) -> int:
        return len(self._texts)

    def keep(self, stored: str, text: str) -> None:
        """It says this."""
        if stored not in self._texts:
            self._texts[stored] = text
            self._taken += len(stored)
            while self._taken > self._room:
                self._taken -= len(self._texts.popitem(last=False)[0])
