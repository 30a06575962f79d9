"""Remembers the events routed lately, so that one relayed twice is routed once. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Seen:
    """The last `limit` event ids of each bot.

    The limit is a little more than one batch of the relay: only the last batch can come twice. A bot can push out its
    own ids only. Hashes are kept instead of ids, a third of the memory.
    """

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._bots: dict[int, dict[int, None]] = {}

    def __contains__(self, key: tuple[int, str]) -> bool:
        bot_id, event_id = key
        return hash(event_id) in self._bots.get(bot_id, ())

    def add(self, keys: Iterable[tuple[int, str]]) -> None:
        """These (bot, event id) have been routed."""
        for bot_id, event_id in keys:
            ids = self._bots.setdefault(bot_id, {})
            ids[hash(event_id)] = None
            if len(ids) > self._limit:
                del ids[next(iter(ids))]

    def forget(self) -> None:
        """What was routed may have been lost."""
        self._bots.clear()
