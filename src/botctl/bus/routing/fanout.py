"""Who gets which event: the subscriptions of the fleet, worked out once a type; conditions are asked of each. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botctl.bus.event_types.conditions import Condition, Path, compile_condition, key_at, narrowest
from botctl.bus.event_types.subscriptions import Subscription, concerns
from botctl.bus.events import Event
from botctl.bus.routing.pattern_index import PatternIndex
from botctl.bus.routing.roster import Roster
from botctl.bus.topology import Receiver

_MOST_TYPES = 4096


Perhaps = tuple[Receiver, Condition]


@dataclass(frozen=True, slots=True)
class _Entry:
    subscription: Subscription
    condition: Condition | None
    narrowest: tuple[Path | None, frozenset[Any]] | None


@dataclass(frozen=True, slots=True)
class _Inlet:
    """A mailbox, and whose events are its own."""

    receiver: Receiver
    members: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Route:
    """Of one type: who gets every event, who only some, and publishers for whom it is otherwise.

    Hundreds of bots may each want the events of one shop: their conditions are looked up by what they all look at
    (`index`: by path, or None for the publisher), and only those are asked that may hold. `others` are asked each time.
    """

    always: tuple[Receiver, ...]
    index: tuple[tuple[Path | None, Mapping[Any, tuple[Perhaps, ...]]], ...]
    others: tuple[Perhaps, ...]
    involved: frozenset[int]


class Fanout:
    """Receivers by event type and publisher, remembered until the fleet changes."""

    def __init__(self) -> None:
        self.looked_at = 0
        """Subscriptions looked at so far: for types that were not remembered, and for conditions asked each time."""
        self._roster = Roster()
        self._inlets: list[_Inlet] = []
        self._subscriptions = PatternIndex[tuple[int, _Entry]]()
        """Each with the place of its inlet."""
        self._routes: dict[str | tuple[str, int], _Route] = {}

    def update(self, roster: Roster) -> None:
        """The fleet as it is now."""
        if roster is self._roster or roster == self._roster:
            return
        self._roster = roster
        self._routes.clear()
        self._inlets = []
        ids, found = roster.ids(), list[tuple[str, tuple[int, _Entry]]]()
        wanted = [
            *((_Inlet(bot, frozenset((bot,))), one.subscribe) for bot, one in roster.bots.items()),
            *((_Inlet(name, roster.members(name)), entries) for name, entries in roster.groups.items()),
        ]
        for place, (inlet, entries) in enumerate(wanted):
            self._inlets.append(inlet)
            for entry in entries:
                made = _Entry(entry, compile_condition(entry, ids), narrowest(entry, ids))
                found.append((entry.type, (place, made)))
        self._subscriptions = PatternIndex(found)

    def receivers(self, event: Event, publisher: int) -> tuple[Receiver, ...]:
        """Bots and groups whose mailboxes get the event. `publisher` is the bot it came from, 0 the fleet."""
        route = self._routes.get(event.type) or self._remember(event.type, None)
        if publisher in route.involved:
            route = self._routes.get((event.type, publisher)) or self._remember(event.type, publisher)
        if not route.index and not route.others:
            return route.always
        self.looked_at += len(route.others)
        data = event.data
        found = dict.fromkeys(route.always)
        for path, entries in route.index:
            for receiver, condition in entries.get(publisher if path is None else key_at(data, path), ()):
                if receiver not in found and condition(data, publisher):
                    found[receiver] = None
        for receiver, condition in route.others:
            if receiver not in found and condition(data, publisher):
                found[receiver] = None
        return tuple(found)

    def _remember(self, event_type: str, publisher: int | None) -> _Route:
        if len(self._routes) >= _MOST_TYPES:  # Bots make up types as they like; don't remember without end.
            self._routes.clear()
        always: list[Receiver] = []
        index: dict[Path | None, dict[Any, list[Perhaps]]] = {}
        others: list[Perhaps] = []
        involved: set[int] = set()
        for inlet, entries in self._concerned(event_type, publisher):
            involved |= inlet.members
            if any(entry.condition is None for entry in entries):
                always.append(inlet.receiver)
                continue
            for entry in entries:
                assert entry.condition is not None
                if entry.narrowest is None:
                    others.append((inlet.receiver, entry.condition))
                    continue
                path, keys = entry.narrowest
                for key in keys:
                    index.setdefault(path, {}).setdefault(key, []).append((inlet.receiver, entry.condition))
        route = _Route(
            tuple(always),
            tuple((path, {key: tuple(one) for key, one in keys.items()}) for path, keys in index.items()),
            tuple(others),
            frozenset(involved),
        )
        self._routes[event_type if publisher is None else (event_type, publisher)] = route
        return route

    def _concerned(self, event_type: str, publisher: int | None) -> Iterator[tuple[_Inlet, list[_Entry]]]:
        """Who wants some events of this type, and the subscriptions that say so."""
        found: dict[int, list[_Entry]] = {}
        for place, entry in self._subscriptions.candidates(event_type):
            self.looked_at += 1
            if concerns(entry.subscription, event_type, own=publisher in self._inlets[place].members):
                found.setdefault(place, []).append(entry)
        for place in sorted(found):
            yield self._inlets[place], found[place]
