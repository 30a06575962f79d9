"""From the wanted fleet and the fleet there is to what must be told to whom. Pure.

Bots are compared by bot_id. A bot that is already as wanted is told nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from botctl.supervision.events import Event, Release, Restart, Unwant, Want
from botctl.supervision.model import Record, State


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


def reconcile(current: Mapping[int, Wanted], desired: Mapping[int, Wanted], records: Mapping[int, Record]) -> Plan:
    """Compare two fleets. `current` is what was last wanted, `records` what has become of it."""
    events: dict[int, Event] = {}
    for bot_id, wanted in desired.items():
        event = _event(current.get(bot_id), wanted, records.get(bot_id))
        if event is not None:
            events[bot_id] = event
    gone = [bot_id for bot_id in current if bot_id not in desired]
    events |= {bot_id: Unwant("removed from the fleet") for bot_id in gone}
    return Plan(events=events, forget=frozenset(gone))


def _event(before: Wanted | None, wanted: Wanted, record: Record | None) -> Event | None:
    if not wanted.enabled:
        runs = record is not None and record.wanted
        return Unwant("disabled in the fleet file") if before is None or before.enabled or runs else None
    if before is None or not before.enabled:
        return Want()
    if before.digest == wanted.digest:
        return None
    if record is not None and record.state is State.QUARANTINED and not record.shut_away:
        return Release()  # its failures may have been the old configuration's
    if record is not None and not record.wanted:
        return None  # an operator stopped it; the new configuration waits for `start`
    return Restart("configuration changed")
