"""How often each cell of the table was hit, and which cells nothing can hit, each with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botctl.supervision import fleet_machine, machine
from botctl.supervision.cells.step import Step
from botctl.supervision.events import EVENTS, Event
from botctl.supervision.model import Record, State

Cells = dict[State, dict[type[Event], int]]

_NO_DEADLINE = "a child in this state has no deadline"
_NOT_WAITING = "turns are given only to those who wait for one: configured and backoff"
_NOT_BACKOFF = "the breaker holds back only what is in backoff"

UNREACHABLE: dict[tuple[State, str], str] = {
    **{(state, "Due"): _NO_DEADLINE for state in (State.CONFIGURED, State.STOPPED, State.QUARANTINED)},
    **{(state, "Admitted"): _NOT_WAITING for state in State if state not in (State.CONFIGURED, State.BACKOFF)},
    **{(state, "Held"): _NOT_BACKOFF for state in State if state is not State.BACKOFF},
}
"""Cells that no history can hit. Each must have been hit 0 times."""


def empty() -> Cells:
    """A count for every cell."""
    return {state: dict.fromkeys(EVENTS, 0) for state in State}


def counting(cells: Cells) -> Callable[[], None]:
    """Count from now on every step that `FleetMachine` takes; gives what ends that."""

    def step(record: Record, event: Any, now: float) -> Step:
        cells[record.state][type(event)] += 1
        return machine.step(record, event, now)

    setattr(fleet_machine, "step", step)  # noqa: B010 - the name that it has imported

    def stop() -> None:
        setattr(fleet_machine, "step", machine.step)  # noqa: B010

    return stop


def flat(cells: Cells) -> dict[tuple[State, str], int]:
    """The counts by state and name of the event."""
    return {(state, event.__name__): number for state, row in cells.items() for event, number in row.items()}


def add(total: Cells, more: Cells) -> None:
    """Add counts."""
    for state, row in more.items():
        mine = total[state]
        for event, number in row.items():
            mine[event] += number


def wrong(cells: Cells, least: int) -> list[str]:
    """What is wrong with the coverage: cells said to be unreachable that were hit, others hit less than `least`."""
    found = []
    for (state, event), number in flat(cells).items():
        reason = UNREACHABLE.get((state, event))
        if reason is not None and number:
            found.append(f"{state.value} × {event} was hit {number} times, though {reason}")
        elif reason is None and number < least:
            found.append(f"{state.value} × {event} was hit {number} times only")
    return found
