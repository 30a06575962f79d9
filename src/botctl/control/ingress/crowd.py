"""Connections in bounded number: who has to go when one more comes. Pure.

Those who have shown a secret stay, and no bot has more than a share of the places: beyond it, each new one takes the
place of its own that has been silent for longest. Among strangers the oldest goes first. So a crowd of strangers pushes
out strangers, and whoever is quick with a secret gets in. Where nearly all have shown one, strangers keep some places
all the same, and the bot with the most connections loses the one that has been silent for longest.
"""

from __future__ import annotations

from typing import Generic, TypeVar

MOST = 2000
"""Telegram has up to 100 for each bot, and seldom more than a few; some 30 kB each."""

MOST_WITH_TLS = 400
"""A quarter of a megabyte each: asyncio's buffer."""

MOST_OF_BOT = 110
"""Telegram's 100, and a few that are being replaced; at most a fourth of all places."""

_FOR_STRANGERS = 8
"""An eighth of the places is left to those who have just come, and have had no time to show a secret."""

T = TypeVar("T")


def most_of(descriptors: int, *, tls: bool) -> int:
    """How many may be in, of a process that may have so many descriptors: the API and the database need some."""
    return max(1, min(MOST_WITH_TLS if tls else MOST, descriptors // 2))


class Crowd(Generic[T]):
    """`T` is a connection; it enters as a stranger."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._most_of_bot = max(1, min(MOST_OF_BOT, most // 4))
        self._strangers: dict[T, None] = {}
        self._known: dict[T, int] = {}
        self._by_bot: dict[int, dict[T, None]] = {}

    def __len__(self) -> int:
        return len(self._strangers) + len(self._known)

    def everybody(self) -> list[T]:
        """All that are in."""
        return [*self._strangers, *self._known]

    def enter(self, one: T) -> T | None:
        """Let one in; who has to go for it, and has left already."""
        goes = None
        if len(self) >= self._most:
            few = len(self._strangers) < self._most // _FOR_STRANGERS
            goes = self._of_the_most() if self._known and (few or not self._strangers) else next(iter(self._strangers))
            self.leave(goes)
        self._strangers[one] = None
        return goes

    def known(self, one: T, bot_id: int) -> T | None:
        """It has shown a secret of this bot, maybe again; who has to go for it, and has left already."""
        if one not in self._strangers and one not in self._known:
            return None
        self.leave(one)
        theirs = self._by_bot.setdefault(bot_id, {})
        goes = next(iter(theirs)) if len(theirs) >= self._most_of_bot else None
        self._known[one] = bot_id
        theirs[one] = None
        if goes is not None:
            self.leave(goes)
        return goes

    def leave(self, one: T) -> None:
        """It is closed."""
        self._strangers.pop(one, None)
        bot_id = self._known.pop(one, None)
        if bot_id is not None:
            theirs = self._by_bot[bot_id]
            del theirs[one]
            if not theirs:
                del self._by_bot[bot_id]

    def _of_the_most(self) -> T:
        most = max(self._by_bot, key=lambda bot_id: len(self._by_bot[bot_id]))
        return next(iter(self._by_bot[most]))
