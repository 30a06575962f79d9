"""What a transition of a bot means: which incarnation begins, gets on or ends, and which events tell of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botctl.bus.events import event_id
from botctl.control.ports import Transition
from botctl.storage.outbox import StoredEvent
from botctl.storage.runs import Ending

_WITHOUT_PROCESS = frozenset({"configured", "stopped", "backoff", "quarantined"})
_TAIL_LINES = 40
_LONGEST_LINE = 4000
_LONGEST_STACKS = 64 * 1024


@dataclass(frozen=True, slots=True)
class Meaning:
    """What to write for one transition. `begins` and `ends` are incarnations."""

    begins: int | None
    ends: int | None
    ready: bool
    events: tuple[StoredEvent, ...]


def meaning(transition: Transition) -> Meaning:
    """Decide. The same transition always gives the same event ids, so that storing it twice tells it once."""
    ended = transition.exit is not None
    begins: int | None = None
    if transition.to_state == "starting" and ended:
        begins = transition.incarnation + 1  # a restart: the record of the end is also the one of the new beginning
    elif transition.to_state == "starting" and transition.from_state in _WITHOUT_PROCESS:
        begins = transition.incarnation
    ready = transition.to_state == "running" and transition.from_state in ("starting", "paused")
    told: list[tuple[str, dict[str, Any]]] = []
    if ended and transition.failure is not None:
        told.append(
            (
                "bot.failed",
                {
                    "failure": transition.failure,
                    "exit": transition.exit,
                    "detail": transition.reason[:500],
                    "duration_s": transition.duration,
                    "cause": transition.cause[:500],
                    "action": transition.action[:200],
                },
            )
        )
    if transition.to_state == "quarantined":
        told.append(("bot.quarantined", {"reason": transition.reason[:500], "failure": transition.failure}))
    elif transition.from_state == "quarantined":
        told.append(("bot.released", {"reason": transition.reason[:500]}))
    if transition.to_state == "stopped" and transition.from_state not in ("configured", "quarantined"):
        told.append(("bot.stopped", {"reason": transition.reason[:500]}))
    if begins is not None:
        told.append(("bot.started", {"incarnation": begins, "reason": transition.reason[:500]}))
    if transition.to_state == "running" and transition.from_state == "starting":
        told.append(("bot.ready", {}))
    elif transition.to_state == "running" and transition.from_state in ("degraded", "paused"):
        told.append(("bot.recovered", {"reason": transition.from_state}))
    if transition.to_state == "degraded":
        told.append(("bot.degraded", {"reason": transition.reason[:500]}))
    if transition.to_state == "paused":
        told.append(("bot.paused", {"reason": transition.reason[:500]}))
    return Meaning(
        begins=begins,
        ends=transition.incarnation if ended else None,
        ready=ready,
        events=tuple(_event(transition, n, type_, data) for n, (type_, data) in enumerate(told)),
    )


def ending(transition: Transition) -> Ending:
    """For the run's row: how it ended, in texts that PostgreSQL takes."""
    return Ending(
        failure=transition.failure,
        exit=transition.exit,
        detail=_storable(transition.reason, _LONGEST_LINE) or None,
        from_state=transition.from_state,
        cause=_storable(transition.cause, _LONGEST_LINE) or None,
        action=_storable(transition.action, _LONGEST_LINE) or None,
        log_tail=tuple(_storable(line, _LONGEST_LINE) for line in transition.log_tail[-_TAIL_LINES:]),
        stacks=_storable(transition.stacks, _LONGEST_STACKS) or None,
        memory_mb=transition.memory_mb,
        silent_for=transition.silent_for,
        duration=transition.duration,
    )


def _storable(text: str, longest: int) -> str:
    return text[:longest].replace("\0", "").encode("utf-8", "replace").decode()


def _event(transition: Transition, n: int, type_: str, data: dict[str, Any]) -> StoredEvent:
    # `seq` begins anew with every daemon; with the time it is unique.
    cause = f"lifecycle:{transition.at!r}:{transition.seq}"
    return StoredEvent(
        event_id=event_id(0, cause, n),
        type=type_,
        version=1,
        occurred_at=transition.at,
        correlation_id="",
        causation_id="",
        data={
            "bot_id": transition.bot_id,
            "name": transition.name,
            "incarnation": transition.incarnation,
            **{key: _storable(value, len(value)) if isinstance(value, str) else value for key, value in data.items()},
        },
    )
