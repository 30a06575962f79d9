"""Who gets which event: the subscriptions of the fleet, worked out once a type; conditions are asked of each. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from botctl.bus.conditions import Condition, compile_condition
from botctl.bus.events import Event
from botctl.bus.roster import Roster
from botctl.bus.subscriptions import Subscription, concerning
from botctl.bus.topology import Receiver

_MOST_TYPES = 4096


@dataclass(frozen=True, slots=True)
class _Inlet:
    """A mailbox: what its receiver subscribes to, and whose events are its own."""

    receiver: Receiver
    members: frozenset[int]
    subscribe: tuple[tuple[Subscription, Condition | None], ...]


@dataclass(frozen=True, slots=True)
class _Route:
    """Of one type: who gets every event, who only some, and publishers for whom it is otherwise."""

    always: tuple[Receiver, ...]
    perhaps: tuple[tuple[Receiver, tuple[Condition, ...]], ...]
    involved: frozenset[int]


class Fanout:
    """Receivers by event type and publisher, remembered until the fleet changes."""

    def __init__(self) -> None:
        self._roster = Roster()
        self._inlets: tuple[_Inlet, ...] = ()
        self._routes: dict[str | tuple[str, int], _Route] = {}

    def update(self, roster: Roster) -> None:
        """The fleet as it is now."""
        if roster is self._roster or roster == self._roster:
            return
        self._roster = roster
        self._routes.clear()
        ids = roster.ids()

        def inlet(receiver: Receiver, members: frozenset[int], entries: tuple[Subscription, ...]) -> _Inlet:
            return _Inlet(receiver, members, tuple((entry, compile_condition(entry, ids)) for entry in entries))

        self._inlets = (
            *(inlet(bot, frozenset((bot,)), one.subscribe) for bot, one in roster.bots.items() if one.subscribe),
            *(inlet(name, roster.members(name), entries) for name, entries in roster.groups.items() if entries),
        )

    def receivers(self, event: Event, publisher: int) -> tuple[Receiver, ...]:
        """Bots and groups whose mailboxes get the event. `publisher` is the bot it came from, 0 the fleet."""
        route = self._routes.get(event.type) or self._remember(event.type, None)
        if publisher in route.involved:
            route = self._routes.get((event.type, publisher)) or self._remember(event.type, publisher)
        if not route.perhaps:
            return route.always
        data = event.data
        return route.always + tuple(
            [receiver for receiver, tests in route.perhaps if any(test(data, publisher) for test in tests)]
        )

    def _remember(self, event_type: str, publisher: int | None) -> _Route:
        if len(self._routes) >= _MOST_TYPES:  # Bots make up types as they like; don't remember without end.
            self._routes.clear()
        always: list[Receiver] = []
        perhaps: list[tuple[Receiver, tuple[Condition, ...]]] = []
        involved: set[int] = set()
        for inlet in self._inlets:
            own = publisher in inlet.members
            wanted = concerning((entry for entry, _ in inlet.subscribe), event_type, own=own)
            if not wanted:
                continue
            tests = [test for entry, test in inlet.subscribe if entry in wanted]
            if None in tests:
                always.append(inlet.receiver)
            else:
                perhaps.append((inlet.receiver, tuple(test for test in tests if test is not None)))
            involved |= inlet.members
        route = _Route(tuple(always), tuple(perhaps), frozenset(involved))
        self._routes[event_type if publisher is None else (event_type, publisher)] = route
        return route
