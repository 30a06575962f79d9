"""Writes the page of the state machine: `python -m botctl.supervision.reference docs/state-machine.md`.

What stands in a cell is read off the table and the cells' own words; where it leads is found by playing every event on
every kind of record that can come about. So the page can't say anything that the code doesn't do.
"""

from __future__ import annotations

import sys
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import get_args

from botctl.supervision import events
from botctl.supervision.actions import Action
from botctl.supervision.events import EVENTS, Event
from botctl.supervision.failures import TREATMENT
from botctl.supervision.machine import TABLE, step
from botctl.supervision.model import Exit, Failure, Health, Policy, Record, State

_INTRODUCTION = """# The state machine

Made from `src/botctl/supervision/` by `python -m botctl.supervision.reference docs/state-machine.md`; a test keeps page
and code equal.

Supervision of one child is `step(record, event, now) -> (record, actions)`: pure, and decided for every state and every
event. `FleetMachine` feeds it for all bots together: it gives turns to start (`pacing.py`) and holds restarts back when
many bots fail together (`breaker.py`).
"""

_SAMPLES: tuple[Event, ...] = (
    events.Want(),
    events.Unwant(),
    events.Restart(),
    events.Quarantine("threat"),
    events.Release(),
    events.Admitted(),
    events.Held("storm"),
    events.Pardoned(),
    events.Spawned(1),
    events.SpawnFailed("no"),
    events.BecameReady(),
    events.Beat(Health.OK),
    events.Beat(Health.DEGRADED),
    events.Beat(Health.PAUSED),
    events.Beat(Health.OK, memory=1e6),
    events.Beat(Health.OK, updates=1e9),
    events.LastWords(Failure.CRASH, "why"),
    events.LastWords(Failure.BAD_TOKEN, "why"),
    events.Misbehaved("garbage"),
    events.Exited(Exit(code=0)),
    events.Exited(Exit(code=1)),
    events.Exited(Exit(signal=9)),
    events.Hearing(deaf=True, reason="deaf"),
    events.Hearing(deaf=False),
    events.Due(),
    events.Stalled(1.0),
)

_POLICY = Policy(intensity=1, memory_soft=100.0, max_updates=1000)


def reference() -> str:
    """The whole page."""
    reached = _explore()
    parts = [_INTRODUCTION, _diagram(reached), _states(), _actions(), _table()]
    parts += [_state(state, reached) for state in State]
    return "\n".join([*parts, _failures()])


def _explore() -> dict[tuple[State, type[Event]], set[State]]:
    """Where each event leads from each state: played on every kind of record, until no new kind comes up."""
    reached: dict[tuple[State, type[Event]], set[State]] = {}
    first = Record(1, _POLICY)
    seen = {_kind(first)}
    waiting = deque([(first, 0.0)])
    while waiting:
        record, now = waiting.popleft()
        for event in _SAMPLES:
            after, _ = step(record, event, now + 1.0)
            reached.setdefault((record.state, type(event)), set()).add(after.state)
            if _kind(after) not in seen:
                seen.add(_kind(after))
                waiting.append((after, now + 1.0))
    return reached


def _kind(record: Record) -> tuple[object, ...]:
    return (
        *(record.state, record.wanted, record.ready, record.escalation, record.after_stop, record.shut_away),
        *(record.last_words, len(record.failures), bool(record.deaf), record.pid is None),
    )


def _diagram(reached: dict[tuple[State, type[Event]], set[State]]) -> str:
    edges: dict[tuple[State, State], list[str]] = {}
    for state in State:
        for event in EVENTS:
            for target in sorted(reached[state, event] - {state}):
                edges.setdefault((state, target), []).append(event.__name__)
    lines = [f"    {start} --> {end}: {', '.join(names)}" for (start, end), names in edges.items()]
    return "\n".join(["```mermaid", "stateDiagram-v2", "    [*] --> configured", *lines, "```", ""])


def _states() -> str:
    documented = _attribute_docs(State)
    rows = [f"| `{state}` | {documented[state.name]} |" for state in State]
    return "\n".join(["## States", "", "| state | meaning |", "|---|---|", *rows, ""])


def _actions() -> str:
    rows = [f"| `{action.__name__}` | {_words(action)} |" for action in get_args(Action)]
    return "\n".join(["## Actions", "", "| action | meaning |", "|---|---|", *rows, ""])


def _table() -> str:
    head = "| event | " + " | ".join(state.value for state in State) + " |"
    rows = []
    for event in EVENTS:
        cells = [TABLE[state][event].__name__ for state in State]
        shown = ["·" if cell == "ignore" else f"`{cell}`" for cell in cells]
        rows.append(f"| {event.__name__} | {' | '.join(shown)} |")
    words = "A dot: nothing happens. What each cell does is told below, state by state."
    return "\n".join(["## The table", "", words, "", head, "|---" * (len(State) + 1) + "|", *rows, ""])


def _state(state: State, reached: dict[tuple[State, type[Event]], set[State]]) -> str:
    rows = []
    for event in EVENTS:
        cell = TABLE[state][event]
        if cell.__name__ == "ignore":
            continue
        targets = ", ".join(f"`{target}`" for target in sorted(reached[state, event]))
        rows.append(f"| {event.__name__}: {_words(event)} | {_words(cell)} | {targets} |")
    return "\n".join([f"### {state}", "", "| event | what is done | leads to |", "|---|---|---|", *rows, ""])


def _failures() -> str:
    rows = []
    for failure in Failure:
        treatment = TREATMENT[failure]
        marks = [treatment.hopeless, treatment.counted, treatment.environmental]
        rows.append(f"| `{failure}` | {treatment.meaning} | {' | '.join('yes' if mark else '–' for mark in marks)} |")
    return "\n".join(
        [
            "## Failures",
            "",
            "After a failure comes a delay, which doubles with each one in a row, and a new start; more counted ones",
            "than the `intensity` within the `period` end in quarantine. Quarantined at once: what no restart mends.",
            "",
            "| failure | meaning | quarantined at once | counted | opens the breaker |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _words(documented: object) -> str:
    return " ".join((documented.__doc__ or "").split())


def _attribute_docs(enumeration: type[State]) -> dict[str, str]:
    """The strings below the members of an enumeration, which Python itself forgets."""
    module = sys.modules[enumeration.__module__]
    lines = Path(str(module.__file__)).read_text("utf-8").split(f"class {enumeration.__name__}(")[1].splitlines()
    found: dict[str, str] = {}
    for line, following in pairwise(lines):
        name = line.strip().split(" = ")[0]
        if name in enumeration.__members__ and name not in found:
            found[name] = following.strip().strip('"')
    return found


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), "utf-8")
