"""The outcome of a cell, and the cells that do next to nothing."""

from __future__ import annotations

from typing import NamedTuple

from botctl.supervision.actions import Action
from botctl.supervision.events import Event, Pardoned, Unwant, Want
from botctl.supervision.model import Record


class Step(NamedTuple):
    """The outcome of one event."""

    record: Record
    actions: tuple[Action, ...] = ()


def ignore(record: Record, event: Event, now: float) -> Step:
    """Nothing to do: already so, or a late report of an incarnation that is gone."""
    return Step(record)


def note_wanted(record: Record, event: Want, now: float) -> Step:
    """Note that it is wanted; what it is in goes on."""
    return Step(record.but(wanted=True))


def note_unwanted(record: Record, event: Unwant, now: float) -> Step:
    """Note that it is not wanted: what it is in ends as it would, and nothing follows."""
    return Step(record.but(wanted=False))


def pardon(record: Record, event: Pardoned, now: float) -> Step:
    """Forget its failures: something else was to blame, and is seen to."""
    return Step(record.but(failures=()))


def moved(record: Record, seconds: float, latest: float) -> Step:
    """The record with its deadline so much later, but not beyond what it would be if it began to count now."""
    if record.deadline is None:
        return Step(record)
    return Step(record.but(deadline=max(record.deadline, min(record.deadline + seconds, latest))))
