"""Writes down what happens to bots: their runs, and the fleet's own events. Repeating a record changes nothing.

While the database is away records wait here, and in the supervisor until `recorded` acknowledges them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from botctl.control.fleet.lifecycle import ending, meaning
from botctl.control.ports import SupervisorPort, Transition
from botctl.control.trouble import DATABASE_TROUBLE, database_reason, is_hopeless
from botctl.storage import runs
from botctl.storage.outbox import Outbox

_log = structlog.get_logger("botctl.control.fleet.recorder")

_BATCH = 200
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 5.0


class Recorder:
    """`on_recorded` is called after each commit: there may be events to relay."""

    def __init__(self, engine: AsyncEngine, supervisor: SupervisorPort, on_recorded: Callable[[], None]) -> None:
        self.problem: str | None = None
        self._engine = engine
        self._supervisor = supervisor
        self._on_recorded = on_recorded
        self._waiting: dict[int, Transition] = {}
        self._arrived = asyncio.Event()
        self._outbox = Outbox(0)

    def take(self, transition: Transition) -> None:
        """A transition to be written; one that waits already is not taken twice."""
        self._waiting[transition.seq] = transition
        self._arrived.set()

    def deaths(self) -> list[Transition]:
        """The ends of incarnations that wait to be written."""
        return [transition for transition in self._waiting.values() if transition.exit is not None]

    async def run(self) -> None:
        """Write until cancelled."""
        wait = _FIRST_WAIT
        while True:
            try:
                await self.write()
            except DATABASE_TROUBLE as error:
                self.problem = database_reason(error)
                _log.warning("lifecycle records wait", waiting=len(self._waiting), reason=self.problem)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT)
            else:
                self.problem = None
                wait = _FIRST_WAIT
                self._arrived.clear()
                await self._arrived.wait()

    async def write(self) -> None:
        """Write all that waits. Raises what the database raises; nothing is forgotten then."""
        while self._waiting:
            batch = sorted(self._waiting.values(), key=lambda transition: transition.seq)[:_BATCH]
            try:
                await self._write(batch)
            except DBAPIError as error:
                if not is_hopeless(error):
                    raise
                await self._write_one_by_one(batch)
            for transition in batch:
                self._waiting.pop(transition.seq, None)
            self._supervisor.recorded(batch[-1].seq)
            self._on_recorded()

    async def _write_one_by_one(self, batch: Sequence[Transition]) -> None:
        for transition in batch:
            try:
                await self._write([transition])
            except DBAPIError as error:
                if not is_hopeless(error):
                    raise
                _log.error("a lifecycle record is refused", seq=transition.seq, reason=database_reason(error))

    async def _write(self, batch: Sequence[Transition]) -> None:
        async with self._engine.begin() as connection:
            for one in batch:
                means = meaning(one)
                if means.ends is not None:
                    await runs.close_run(
                        connection,
                        one.bot_id,
                        means.ends,
                        at=one.at,
                        seq=one.seq,
                        pid=one.pid,
                        ending=ending(one),
                    )
                if means.begins is not None:
                    pid = None if means.ends is not None else one.pid
                    await runs.open_run(connection, one.bot_id, means.begins, at=one.at, seq=one.seq, pid=pid)
                elif means.ends is None:
                    await runs.note_progress(
                        connection,
                        one.bot_id,
                        one.incarnation,
                        seq=one.seq,
                        pid=one.pid,
                        ready_at=one.at if means.ready else None,
                    )
                await self._outbox.add(connection, means.events)
