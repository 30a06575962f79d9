"""Lanes: in order within a chat, fair and concurrent across chats. Pure: time is an argument.

Holds the rows of the inbox that are in memory: at most `capacity`, and at most `per_lane` of one chat, so that a chat
that floods doesn't push the others out. What doesn't fit stays in the database and is asked for when there is room.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from botctl.storage.inbox import InboxRow


class _State(Enum):
    IDLE = "idle"
    READY = "ready"
    BUSY = "busy"
    SLEEPING = "sleeping"


@dataclass(slots=True)
class _Lane:
    rows: deque[InboxRow] = field(default_factory=deque)
    state: _State = _State.IDLE
    wake_at: float = 0.0
    overflowed: bool = False
    last: int = 0


class Lanes:
    """Rows enter with `add`, leave with `take` and `release`; a lane gives one row at a time."""

    def __init__(self, capacity: int = 1000, per_lane: int = 50) -> None:
        self.capacity = capacity
        self.per_lane = per_lane
        self._lanes: dict[str, _Lane] = {}
        self._ready: deque[str] = deque()
        self._sleeping: list[tuple[float, str]] = []
        self._held = 0

    def __len__(self) -> int:
        """How many rows are in memory."""
        return self._held

    @property
    def room(self) -> int:
        """How many more rows may be added."""
        return max(0, self.capacity - self._held)

    @property
    def busy(self) -> int:
        """How many lanes have a row under way."""
        return sum(lane.state is _State.BUSY for lane in self._lanes.values())

    @property
    def overflowed(self) -> bool:
        """Whether rows of some lane wait in the database that are not in memory."""
        return any(lane.overflowed for lane in self._lanes.values())

    def add(self, row: InboxRow, now: float) -> None:
        """A row behind all those of its lane that were added before; a row that is there already is ignored."""
        lane = self._lanes.setdefault(row.lane, _Lane())
        if row.inbox_id <= lane.last:
            return
        if lane.overflowed or len(lane.rows) >= self.per_lane:
            lane.overflowed = True
            return
        self._append(lane, row, now)

    def refill(self, name: str, rows: list[InboxRow], now: float, *, complete: bool) -> None:
        """Rows of an overflowed lane, read from the database; `complete`: no more of this lane wait there."""
        lane = self._lanes.setdefault(name, _Lane())
        for row in rows:
            if row.inbox_id > lane.last:
                self._append(lane, row, now)
        lane.overflowed = not complete

    def hungry(self) -> tuple[str, int] | None:
        """An overflowed lane that has nothing left in memory, and the inbox_id to read on from."""
        for name, lane in self._lanes.items():
            if lane.overflowed and not lane.rows and lane.state is not _State.BUSY:
                return name, lane.last
        return None

    def hold(self, name: str) -> None:
        """Keep a lane back until it is released, for work of its chat that comes first."""
        lane = self._lanes.setdefault(name, _Lane())
        lane.state = _State.BUSY

    def take(self, now: float) -> InboxRow | None:
        """The next row to handle; its lane is busy until `release`."""
        while self._sleeping and self._sleeping[0][0] <= now:
            _, name = heapq.heappop(self._sleeping)
            lane = self._lanes.get(name)
            if lane is not None and lane.state is _State.SLEEPING and lane.wake_at <= now:
                self._make_ready(name, lane, now)
        while self._ready:
            name = self._ready.popleft()
            lane = self._lanes[name]
            if lane.state is _State.READY and lane.rows:
                lane.state = _State.BUSY
                return lane.rows[0]
        return None

    def release(self, name: str, now: float, *, finished: bool = True, again: InboxRow | None = None) -> None:
        """The lane's row is finished, or is to be handled again as `again` when its `next_attempt_at` has come."""
        lane = self._lanes[name]
        if again is not None:
            lane.rows[0] = again
        elif finished and lane.rows:
            lane.rows.popleft()
            self._held -= 1
        lane.state = _State.IDLE
        if lane.rows:
            self._make_ready(name, lane, now)
        elif not lane.overflowed:
            del self._lanes[name]

    def wake_at(self) -> float | None:
        """When `take` may have more to give, though nothing is added or released."""
        return self._sleeping[0][0] if self._sleeping else None

    def _append(self, lane: _Lane, row: InboxRow, now: float) -> None:
        lane.rows.append(row)
        lane.last = row.inbox_id
        self._held += 1
        if lane.state is _State.IDLE:
            self._make_ready(row.lane, lane, now)

    def _make_ready(self, name: str, lane: _Lane, now: float) -> None:
        due = lane.rows[0].next_attempt_at
        if due > now:
            lane.state, lane.wake_at = _State.SLEEPING, due
            heapq.heappush(self._sleeping, (due, name))
        else:
            lane.state = _State.READY
            self._ready.append(name)
