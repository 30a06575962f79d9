"""Who gets which event: the subscriptions of the fleet, asked once a type. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from botctl.bus.subscriptions import wants

_MOST_TYPES = 4096


class Fanout:
    """Receivers by event type and publisher, remembered until the subscriptions change."""

    def __init__(self) -> None:
        self._subscribers: Mapping[int, tuple[str, ...]] = {}
        self._receivers: dict[str, tuple[int, ...]] = {}

    def update(self, subscribers: Mapping[int, tuple[str, ...]]) -> None:
        """The subscriptions as they are now."""
        if subscribers is not self._subscribers and subscribers != self._subscribers:
            self._subscribers = dict(subscribers)
            self._receivers.clear()

    def receivers(self, event_type: str, publisher: int) -> tuple[int, ...]:
        """Bots whose mailboxes get the event. `publisher` is the bot it came from, 0 the fleet."""
        found = self._receivers.get(event_type)
        if found is None:
            if len(self._receivers) >= _MOST_TYPES:  # Bots make up types as they like; don't remember without end.
                self._receivers.clear()
            found = tuple(bot for bot, patterns in self._subscribers.items() if wants(patterns, event_type, own=False))
            self._receivers[event_type] = found
        if publisher in found and not wants(self._subscribers[publisher], event_type, own=True):
            return tuple(bot for bot in found if bot != publisher)
        return found
