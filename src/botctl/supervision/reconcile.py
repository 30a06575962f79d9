"""From the wanted fleet and the fleet there is to what must be told to whom. Pure.

Bots are compared by bot_id. A bot that is already as wanted is told nothing but its wish to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from botctl.supervision.events import Event, Restart, Unwant, Want


@dataclass(frozen=True)
class Wanted:
    """What decides whether a bot must be restarted: its digest, and whether it is to run at all."""

    digest: str
    enabled: bool = True


@dataclass(frozen=True)
class Plan:
    """Events by bot_id. `forget` are bots to drop from the books once they have stopped."""

    events: dict[int, Event]
    forget: frozenset[int]


def reconcile(current: Mapping[int, Wanted], desired: Mapping[int, Wanted]) -> Plan:
    """Compare two fleets. `current` is what was last wanted, not what happens to run."""
    events: dict[int, Event] = {}
    for bot_id, wanted in desired.items():
        before = current.get(bot_id)
        if not wanted.enabled:
            if before is None or before.enabled:
                events[bot_id] = Unwant("disabled in the fleet file")
        elif before is None or not before.enabled:
            events[bot_id] = Want()
        elif before.digest != wanted.digest:
            events[bot_id] = Restart("configuration changed")
    gone = frozenset(current) - frozenset(desired)
    events |= {bot_id: Unwant("removed from the fleet") for bot_id in gone}
    return Plan(events=events, forget=gone)
