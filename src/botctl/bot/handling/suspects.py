"""Lets attempts run together, a suspect alone, and who rests not yet.

An update that was being worked on when the process ended may be its cause, or a bystander; `suspicion` says which. A
suspect is tried with nothing beside it, so that the next death has one name to it: a poisonous update becomes a dead
letter, and takes nobody else's with it. Suspicion outlives the process, so that a second poison doesn't go back into
company while the first is being found out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.handling.scope import Scope
from botctl.bot.handling.suspicion import Judgement, judge
from botctl.bot.live_limits import LiveLimits
from botctl.storage.interruptions import Interruptions, Mark, Settled, UnderWay

_log = structlog.get_logger("botctl.bot.handling.suspects")

ALONE_TIMEOUT = 30.0
"""Seconds a suspect waits for the others to end; then it runs in their company."""


class Suspects:
    """Judges at the start; then lets attempts run. `clock` is monotonic, in seconds."""

    def __init__(
        self,
        database: Database,
        interruptions: Interruptions,
        *,
        limits: LiveLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._interruptions = interruptions
        self._limits = limits
        self._clock = clock
        self._suspected: set[int] = set()
        self._guilty: frozenset[int] = frozenset()
        self._rest_until: dict[int, float] = {}
        self._entered: set[int] = set()
        """Suspects that have been tried."""
        self._inside = 0
        self._alone = asyncio.Lock()
        self._changed = asyncio.Condition()

    async def find(self, previous_failure: str) -> int:
        """Judge what an earlier process was working on when it ended; how many updates are newly given up."""
        first: list[tuple[Judgement, dict[int, UnderWay], int]] = []

        async def work(connection: AsyncConnection) -> tuple[Judgement, dict[int, UnderWay], int]:
            under_way = await self._interruptions.under_way(connection)
            if first and not under_way:
                return first[0]  # it has been committed, though its answer was lost
            await self._interruptions.note(connection, f"the process ended: {previous_failure or 'nobody knows how'}")
            before = await self._interruptions.marks(connection)
            judged = judge(previous_failure, under_way, before, self._limits.attempts)
            await self._interruptions.settle(connection, _settled(under_way, before, judged))
            new = judged.guilty - frozenset(row for row, mark in before.items() if mark.guilty)
            first[:] = [(judged, under_way, len(new))]
            return first[0]

        judged, under_way, new = await self._database.transaction(work)
        now = self._clock()
        self._suspected |= judged.alone
        self._guilty = judged.guilty
        self._rest_until = {row: now + rest for row, rest in judged.rests.items()}
        if under_way or judged.guilty:
            _log.warning(
                "updates were interrupted by the end of the process",
                failure=previous_failure or "unknown",
                excused=len(judged.excused),
                tried_alone=len(judged.alone),
                resting=len(judged.rests),
                given_up=len(judged.guilty),
            )
        return new

    def rests_until(self, inbox_id: int) -> float:
        """When an update may be tried, by the clock; it is to be asked for anew then."""
        return self._rest_until.get(inbox_id, 0.0)

    def is_guilty(self, inbox_id: int) -> bool:
        """Whether the process has ended with this update alone too often."""
        return inbox_id in self._guilty

    async def enter(self, scope: Scope) -> None:
        """Begin to work on an update; waits while a suspect is alone, and, for a suspect, until it is."""
        if scope.inbox_id not in self._suspected:
            if self._suspected:
                async with self._changed:
                    await self._changed.wait_for(lambda: not self._alone.locked())
            self._inside += 1
            scope.inside = True
            return
        await self._alone.acquire()
        self._entered.add(scope.inbox_id)
        try:
            async with asyncio.timeout(ALONE_TIMEOUT), self._changed:
                await self._changed.wait_for(lambda: self._inside == 0)
        except TimeoutError:
            _log.warning("a suspect has to run in company", inbox_id=scope.inbox_id, others=self._inside)
        except BaseException:
            self._alone.release()
            raise
        self._inside += 1
        scope.inside = scope.alone = True

    async def leave(self, scope: Scope, *, finished: bool = False) -> None:
        """The update is not worked on: it waits for something outside, or is `finished`. Harmless when not inside."""
        if finished:
            if scope.inbox_id in self._entered or scope.inbox_id in self._guilty:
                self._entered.discard(scope.inbox_id)
                self._suspected.discard(scope.inbox_id)
            self._guilty -= {scope.inbox_id}  # given up by now; an operator may have it tried once more
        if not scope.inside:
            return
        self._inside -= 1
        scope.inside = False
        if scope.alone:
            scope.alone = False
            self._alone.release()
        if self._suspected or self._alone.locked() or finished:
            async with self._changed:
                self._changed.notify_all()


def _settled(under_way: dict[int, UnderWay], before: dict[int, Mark], judged: Judgement) -> list[Settled]:
    """What is to be stored of it: rows that were being worked on, and those whose mark is another one now."""
    rows = under_way.keys() | {
        row for row in before.keys() | judged.marks.keys() if before.get(row) != judged.marks.get(row)
    }
    return [Settled(row, row in judged.excused, judged.marks.get(row)) for row in sorted(rows)]
