"""What is to be told of the fleet as a whole, from what the supervisor sees: `fleet.started` and its kin. Pure.

Of one daemon. A `control` that is started again beside it tells nothing twice that its predecessor has told within the
last hour, but that restarts are still held back.
"""

from __future__ import annotations

from typing import Any

from botctl.bus.events import event_id
from botctl.control.ports import FleetSight
from botctl.storage.outbox import StoredEvent

NEW = 3000.0
"""Seconds for which a daemon has just started: as long as the outbox surely knows that it was told already."""

_LONGEST_REASON = 500


class FleetStory:
    """Remembers what was told. `version` is botctl's."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._started = False
        self._stopped = False
        self._held_back = False

    def look(self, sight: FleetSight, bots: int, now: float) -> list[StoredEvent]:
        """What is new; `bots` are wanted, `now` is in seconds since the epoch."""
        daemon = f"daemon:{sight.pid}:{sight.started_at!r}"
        found: list[StoredEvent] = []
        if not self._started:
            self._started = True
            if now - sight.started_at < NEW:
                data = {"version": self._version, "pid": sight.pid, "bots": bots}
                found.append(_event(f"{daemon}:started", "fleet.started", sight.started_at, data))
        if bool(sight.breaker) is not self._held_back:
            self._held_back = bool(sight.breaker)
            type_ = "fleet.paused" if self._held_back else "fleet.resumed"
            reason = {"reason": sight.breaker[:_LONGEST_REASON]}
            found.append(_event(f"{daemon}:{type_}:{now!r}", type_, now, reason))
        if sight.state == "stopping" and not self._stopped:
            self._stopped = True
            reason = {"reason": "the daemon shuts down"}
            found.append(_event(f"{daemon}:stopped", "fleet.stopped", now, reason))
        return found


def _event(cause: str, type_: str, at: float, data: dict[str, Any]) -> StoredEvent:
    return StoredEvent(
        event_id=event_id(0, cause, 0),
        type=type_,
        version=1,
        occurred_at=at,
        correlation_id="",
        causation_id="",
        data=data,
    )
