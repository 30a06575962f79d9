"""One child's machine played by hand, with a policy of small round numbers."""

from __future__ import annotations

from botctl.supervision import events, machine
from botctl.supervision.actions import AskTurn
from botctl.supervision.cells.step import Step
from botctl.supervision.model import Policy, Record, State

POLICY = Policy(intensity=3, period=60.0, first_delay=0.1, max_delay=5.0, stop_timeout=10.0, ready_timeout=20.0)


def step(record: Record, event: events.Event, now: float) -> Step:
    """A step of the machine; who asks for a turn has it at once."""
    record, actions = machine.step(record, event, now)
    if AskTurn() not in actions:
        return Step(record, actions)
    assert actions == (AskTurn(),)
    return machine.step(record, events.Admitted(), now)


def play(*happenings: tuple[float, events.Event], record: Record | None = None) -> tuple[Record, list[object]]:
    record = record or Record(key=7, policy=POLICY)
    actions: list[object] = []
    for at, event in happenings:
        record, done = step(record, event, at)
        actions += done
    return record, actions


def running(at: float = 1.0) -> Record:
    record, _ = play((0.0, events.Want()), (0.1, events.Spawned(100)), (at, events.BecameReady()))
    assert record.state is State.RUNNING
    return record
