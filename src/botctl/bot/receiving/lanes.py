"""Lanes: in order within a chat, fair and concurrent across chats. Pure: time is an argument.

Holds the rows of the inbox that are in memory, never more than `capacity` read from the backlog and `reserve` that came
while there was one; and at most `per_lane` of one chat, so that a chat that floods doesn't push the others out. What
doesn't fit stays in the database and is asked for when there is room. Nothing here costs more when more chats wait.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections import deque

from botctl.bot.receiving.lane import Lane, LaneState
from botctl.bot.receiving.turns import Turns
from botctl.storage.inbox import InboxRow

MOST_OVERFLOWED = 5000
"""Chats with more waiting than is in memory whose names are kept; beyond them the backlog isn't read on for a while."""


def _inbox_id(row: InboxRow) -> int:
    return row.inbox_id


class Lanes:
    """Rows enter with `add`, `arrive` and `refill`, leave with `take` and `release`; a lane gives one row at a time.

    Lanes take turns (`turns.py`).
    """

    def __init__(self, capacity: int = 1000, per_lane: int = 50, reserve: int = 1000) -> None:
        self.capacity = capacity
        self.per_lane = per_lane
        self.reserve = reserve
        self._lanes: dict[str, Lane] = {}
        self._turns = Turns()
        self._sleeping: list[tuple[float, str]] = []
        self._ids: set[int] = set()
        self._fresh = 0
        self._overflowed: dict[str, None] = {}
        self._hungry: dict[str, None] = {}
        self._left: set[int] = set()

    def __len__(self) -> int:
        """How many rows are in memory."""
        return len(self._ids)

    @property
    def room(self) -> int:
        """How many more rows of the backlog may be added."""
        return max(0, self.capacity - len(self._ids) + self._fresh)

    @property
    def may_grow(self) -> bool:
        """Whether so few lanes have overflowed that the backlog may be read on."""
        return len(self._overflowed) < MOST_OVERFLOWED

    @property
    def busy(self) -> int:
        """How many lanes have a row under way."""
        return sum(lane.state is LaneState.BUSY for lane in self._lanes.values())

    @property
    def overflowed(self) -> bool:
        """Whether rows of some lane wait in the database that are not in memory."""
        return bool(self._overflowed)

    @property
    def known(self) -> list[int]:
        """The inbox_ids of what is in memory, and of what was left."""
        return [*self._ids, *self._left]

    @property
    def left(self) -> list[int]:
        """The inbox_ids of rows that this process can't handle."""
        return list(self._left)

    def overflowing(self) -> dict[str, int]:
        """Lanes of which not all is in memory, with the inbox_id behind which it waits in the database."""
        return {name: self._lanes[name].last for name in self._overflowed}

    def add(self, row: InboxRow, now: float) -> bool:
        """A row of the backlog, into its place in its lane; a row that is there already is ignored.

        It may come late, behind others that were stored after it: then it comes before those of them that have not
        been begun. Whether it says anything new.
        """
        lane = self._lanes.setdefault(row.lane, Lane())
        if row.inbox_id in self._ids or row.inbox_id in self._left:
            return False
        if lane.overflowed and row.inbox_id > lane.last:
            return False
        self._insert(lane, row, now)
        if len(lane.rows) > self.per_lane:
            self._forget(lane, lane.rows.pop())
            self._overflow(row.lane, lane)
        return True

    def arrive(self, row: InboxRow, now: float, *, previous: int | None, old: bool = False) -> bool:
        """A row that was stored just now. False when there is no room for it, and it has to be found in the database.

        `previous`: the inbox_id of what waits in its lane before it; None for nothing. If that is not in memory, the
        lane is read from the database. A chat of which nothing waited has its turn at once, whatever waits of others,
        unless the row is `old`: it has waited elsewhere, as a backlog.
        """
        lane = self._lanes.get(row.lane)
        if lane is None:
            if previous is None:
                if self.room <= 0 and (old or self._fresh >= self.reserve):
                    return False
                lane = self._lanes[row.lane] = Lane(fresh=self.room <= 0, prompt=not old)
                self._insert(lane, row, now)
                return True
            if not self.may_grow:
                return False
            lane = self._lanes[row.lane] = Lane()
            self._overflow(row.lane, lane)
            self._emptied(row.lane, lane)
            return True
        if row.inbox_id in self._ids or lane.overflowed:
            return True
        full = self._fresh >= self.reserve if lane.fresh else self.room <= 0
        if full or len(lane.rows) >= self.per_lane or not (previous is None or previous in self._ids):
            self._overflow(row.lane, lane)
            if not lane.rows and lane.state is LaneState.IDLE:
                self._emptied(row.lane, lane)
        else:
            self._insert(lane, row, now)
        return True

    def refill(self, name: str, rows: list[InboxRow], now: float, *, complete: bool) -> None:
        """The first rows of a hungry lane, read from the database; `complete`: no more of this lane wait there."""
        lane = self._lanes.setdefault(name, Lane())
        self._hungry.pop(name, None)
        lane.fresh = lane.fresh and bool(lane.rows)  # what is read now counts for the backlog
        if complete:
            lane.overflowed = False
            self._overflowed.pop(name, None)
        for row in rows:
            if row.inbox_id not in self._ids and row.inbox_id not in self._left:
                self._insert(lane, row, now)
        if not lane.rows and lane.state is LaneState.IDLE:
            self._emptied(name, lane)

    def hungry(self) -> str | None:
        """An overflowed lane that has nothing left in memory; those that were hungry first come first."""
        return next(iter(self._hungry), None)

    def has(self, name: str) -> bool:
        """Whether a lane has rows, one under way included."""
        return name in self._lanes

    def hold(self, name: str) -> None:
        """Keep a lane back until it is released, for work of its chat that comes first."""
        lane = self._lanes.setdefault(name, Lane())
        lane.state, lane.held = LaneState.BUSY, True
        self._hungry.pop(name, None)

    def take(self, now: float) -> InboxRow | None:
        """The next row to handle; its lane is busy until `release`."""
        while self._sleeping and self._sleeping[0][0] <= now:
            _, name = heapq.heappop(self._sleeping)
            lane = self._lanes.get(name)
            if lane is not None and lane.state is LaneState.SLEEPING and lane.wake_at <= now:
                self._make_ready(name, lane, now)
        while (ready := self._turns.next()) is not None:
            lane = self._lanes.get(ready)
            if lane is not None and lane.state is LaneState.READY and lane.rows:
                lane.state = LaneState.BUSY
                return lane.rows[0]
        return None

    def release(
        self, name: str, now: float, *, finished: bool = True, again: InboxRow | None = None, left: bool = False
    ) -> None:
        """The lane's row is finished, or is to be handled again as `again` when its `next_attempt_at` has come.

        `left`: it waits in the database still, and is not to be read again by this process.
        """
        lane = self._lanes[name]
        if again is not None:
            lane.rows[0] = again
        elif finished and lane.rows:
            row = lane.rows.popleft()
            self._forget(lane, row)
            if left:
                self._left.add(row.inbox_id)
        lane.state, lane.held = LaneState.IDLE, False
        if lane.rows:
            self._make_ready(name, lane, now)
        else:
            self._emptied(name, lane)

    def wake_at(self) -> float | None:
        """When `take` may have more to give, though nothing is added or released."""
        return self._sleeping[0][0] if self._sleeping else None

    def _insert(self, lane: Lane, row: InboxRow, now: float) -> None:
        self._ids.add(row.inbox_id)
        self._fresh += lane.fresh
        if not lane.rows or row.inbox_id > lane.rows[-1].inbox_id:
            lane.rows.append(row)
        else:
            # What has been begun, or waits for its next attempt, keeps its place.
            head = [lane.rows.popleft()] if lane.begun else []
            rest = list(lane.rows)
            insort(rest, row, key=_inbox_id)
            lane.rows = deque([*head, *rest])
        self._hungry.pop(row.lane, None)
        if lane.state is LaneState.IDLE:
            self._make_ready(row.lane, lane, now)

    def _forget(self, lane: Lane, row: InboxRow) -> None:
        self._ids.discard(row.inbox_id)
        self._fresh -= lane.fresh

    def _overflow(self, name: str, lane: Lane) -> None:
        lane.overflowed, lane.prompt = True, False
        self._overflowed[name] = None

    def _emptied(self, name: str, lane: Lane) -> None:
        if lane.overflowed:
            self._hungry[name] = None
        else:
            del self._lanes[name]

    def _make_ready(self, name: str, lane: Lane, now: float) -> None:
        due = lane.rows[0].next_attempt_at
        if due > now:
            lane.state, lane.wake_at = LaneState.SLEEPING, due
            heapq.heappush(self._sleeping, (due, name))
        else:
            lane.state = LaneState.READY
            self._turns.add(name, prompt=lane.prompt)
