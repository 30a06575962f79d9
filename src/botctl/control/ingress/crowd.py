"""Connections in bounded number: who has to go when one more comes. Pure.

Those who have shown a secret stay; among the others the oldest goes first. So a crowd of strangers pushes out
strangers, and whoever is quick with a secret gets in. Where all have shown one, the bot with the most connections loses
the one that has been silent for longest.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar

MOST = 2000
"""Telegram has up to 100 for each bot, and seldom more than a few; some 30 kB each."""

MOST_WITH_TLS = 400
"""A quarter of a megabyte each: asyncio's buffer."""

T = TypeVar("T")


def most_of(descriptors: int, *, tls: bool) -> int:
    """How many may be in, of a process that may have so many descriptors: the API and the database need some."""
    return max(1, min(MOST_WITH_TLS if tls else MOST, descriptors // 2))


class Crowd(Generic[T]):
    """`T` is a connection; it enters as a stranger."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._strangers: dict[T, None] = {}
        self._known: dict[T, int] = {}
        self._by_bot: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def everybody(self) -> list[T]:
        """All that are in."""
        return [*self._strangers, *self._known]

    def enter(self, one: T) -> T | None:
        """Let one in; who has to go for it, and has left already."""
        goes = None
        if len(self) >= self._most:
            goes = next(iter(self._strangers), None) or self._of_the_most()
            self.leave(goes)
        self._strangers[one] = None
        return goes

    def known(self, one: T, bot_id: int) -> None:
        """It has shown a secret of this bot, for the first time or again."""
        if one in self._strangers or one in self._known:
            self.leave(one)
            self._known[one] = bot_id
            self._by_bot[bot_id] += 1

    def leave(self, one: T) -> None:
        """It is closed."""
        self._strangers.pop(one, None)
        bot_id = self._known.pop(one, None)
        if bot_id is not None:
            self._by_bot[bot_id] -= 1
            if not self._by_bot[bot_id]:
                del self._by_bot[bot_id]

    def _of_the_most(self) -> T:
        most = max(self._by_bot, key=self._by_bot.__getitem__)
        return next(one for one, bot_id in self._known.items() if bot_id == most)
