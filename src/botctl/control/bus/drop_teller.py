"""Tells of events that a reader will never have: in the log at once, and as `bus.dropped` when the database takes it.

What follows soon for the same reader and stream is told together, so that a flood of losses is no flood of events.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.bus.caretaking.dropped import Dropped
from botctl.bus.events import event_id
from botctl.bus.reading.lag import Lag
from botctl.bus.stream_reply import entry_order
from botctl.bus.topology import Topology
from botctl.control.trouble import DATABASE_TROUBLE, database_reason
from botctl.storage.outbox import Outbox, StoredEvent

_log = structlog.get_logger("botctl.control.dropped")

AGAIN_AFTER = 60.0
"""Seconds between two events about the same reader and stream."""

_RETRY = 2.0
_MOST = 2_000
"""Readers with something to be told that are remembered while the database is away."""


@dataclass(slots=True)
class _Waiting:
    dropped: Dropped
    since: float
    event: str


class DropTeller:
    """`wake` is called when there is something for the fleet's relay."""

    def __init__(self, engine: AsyncEngine, wake: Callable[[], None], *, again_after: float = AGAIN_AFTER) -> None:
        self.entries: dict[str, int] = {}
        """By reader: how many it has lost since the process began."""
        self._engine = engine
        self._wake = wake
        self._again_after = again_after
        self._outbox = Outbox(0)
        self._waiting: dict[tuple[str, str, str], _Waiting] = {}
        self._told: dict[tuple[str, str, str], float] = {}
        self._arrived = asyncio.Event()

    def tell(self, dropped: Dropped) -> None:
        """Take note; returns at once."""
        _log.warning(
            "events went that a reader had not read", stream=dropped.stream, reader=dropped.reader,
            entries=dropped.entries, first=dropped.first, before=dropped.before, reason=dropped.why,
        )  # fmt: skip
        self.entries[dropped.reader] = self.entries.get(dropped.reader, 0) + dropped.entries
        key = (dropped.stream, dropped.reader, dropped.why)
        known = self._waiting.get(key)
        if known is None and len(self._waiting) >= _MOST:
            _log.error("too many losses wait to be told: an event is left out", reader=dropped.reader)
        elif known is None:
            self._waiting[key] = _Waiting(dropped, time.time(), event_id(0, f"dropped:{uuid.uuid4()}", 0))
        else:
            one = known.dropped
            known.dropped = Dropped(
                one.stream,
                one.reader,
                one.entries + dropped.entries,
                one.first or dropped.first,
                dropped.before,
                one.why,
            )
        self._arrived.set()

    async def run(self) -> None:
        """Publish until cancelled; the database being away is waited out."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                try:
                    await self._publish()
                except DATABASE_TROUBLE as error:
                    _log.warning("losses wait to be told", reason=database_reason(error))
                    await asyncio.sleep(_RETRY)
                else:
                    if self._waiting:
                        await asyncio.sleep(min(1.0, self._again_after))

    async def _publish(self) -> None:
        now = time.monotonic()
        self._told = {key: at for key, at in self._told.items() if now - at < self._again_after}
        due = {key: one for key, one in self._waiting.items() if key not in self._told}
        if not due:
            return
        async with self._engine.begin() as connection:
            await self._outbox.add(connection, [_event(one) for one in due.values()])
        for key in due:
            del self._waiting[key]
            self._told[key] = now
        self._wake()


def unread_before(since: float, lags: Sequence[Lag], topology: Topology) -> list[Dropped]:
    """What bots and groups will never have of a server that is empty now: `lags` are those measured last.

    What was relayed from `since` on, in seconds since the epoch, comes again. Readers of logs are looked after by
    `GrantKeeper`.
    """
    before = int(since * 1000)
    found: list[Dropped] = []
    for lag in lags:
        receiver = topology.receiver_of(lag.stream)
        if receiver is not None and lag.oldest and entry_order(lag.oldest)[0] < before:
            reader = f"{'bot' if isinstance(receiver, int) else 'group'}:{receiver}"
            found.append(Dropped(lag.stream, reader, lag.unread + lag.pending, lag.oldest, f"{before}-0", "redis"))
    return found


def _event(waiting: _Waiting) -> StoredEvent:
    dropped = waiting.dropped
    return StoredEvent(
        event_id=waiting.event,
        type="bus.dropped",
        version=1,
        occurred_at=waiting.since,
        correlation_id="",
        causation_id="",
        data={
            "stream": dropped.stream,
            "reader": dropped.reader,
            "entries": dropped.entries,
            "first_id": dropped.first,
            "before_id": dropped.before,
            "reason": dropped.why,
        },
    )
