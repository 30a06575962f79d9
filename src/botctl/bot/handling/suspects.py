"""Which updates may have ended the process, and how to find out without punishing the others.

An update that was being worked on when the process ended may be its cause, or a bystander. When the process was killed
from outside, all were bystanders. When it broke and only one was being worked on, that one is to blame. When there were
several, nobody can know: they are all taken back, and then tried one at a time with nothing beside them, so that the
next death has one name to it. So a poisonous update becomes a dead letter, and takes nobody else's with it. Suspicion
outlives the process, so that a second poison doesn't go back into company while the first is being found out. The
kernel kills a process that takes all memory just as an operator does, with KILL: an update that was there at several
such deaths is suspected too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.handling.scope import Scope
from botctl.bot.live_limits import LiveLimits
from botctl.storage.inbox import Inbox, Mark

_log = structlog.get_logger("botctl.bot.handling.suspects")

TELLING = frozenset({"crash", "hang", "memory", "exit", "protocol"})
"""Failures (`runtime.messages.Failure`) that an update can be the cause of."""

DEATHS = 3
"""Deaths after which an update is given up, one of them perhaps in company, if its bot allows as many attempts. Two
poisonous updates that begin together make five: as many as the default restart intensity, at which a bot still is
restarted. With the update its deaths are pardoned (`messages.GaveUp`): it is to be shut away, not the bot."""

KILLS = 5
"""Kills from outside in a row, all during the same update, after which it is suspected."""

ALONE_TIMEOUT = 30.0
"""Seconds a suspect waits for the others to end; then it runs in their company."""


@dataclass(frozen=True)
class Verdict:
    """By inbox_id: whose interrupted attempt is taken back, who is tried alone, who is given up."""

    excused: frozenset[int] = frozenset()
    suspected: frozenset[int] = frozenset()
    guilty: frozenset[int] = frozenset()


def judge(
    previous_failure: str,
    interrupted: Mapping[int, int],
    limit: int,
    seen_together: frozenset[int] = frozenset(),
    suspected: frozenset[int] = frozenset(),
) -> Verdict:
    """`interrupted` maps the rows that were being worked on to their attempts, the interrupted one included. Pure.

    `seen_together` are rows that were there at an earlier death, with others; that one counts too. `suspected` are all
    rows suspected before: during one of these, a kill tells as much as a crash.
    """
    rows = frozenset(interrupted)
    if previous_failure not in TELLING and not (previous_failure == "signal" and rows and rows <= suspected):
        return Verdict(excused=rows)
    if len(rows) != 1:
        return Verdict(excused=rows, suspected=rows)
    guilty = frozenset(
        row for row, attempts in interrupted.items() if attempts >= min(limit, DEATHS - (row in seen_together))
    )
    return Verdict(suspected=rows - guilty, guilty=guilty)


class Suspects:
    """Judges at the start; then lets attempts run together, and a suspect alone."""

    def __init__(self, database: Database, inbox: Inbox, *, limits: LiveLimits) -> None:
        self._database = database
        self._inbox = inbox
        self._limits = limits
        self._suspected: set[int] = set()
        self._guilty: frozenset[int] = frozenset()
        self._inside = 0
        self._alone = asyncio.Lock()
        self._changed = asyncio.Condition()

    async def find(self, previous_failure: str) -> int:
        """Judge what an earlier process was working on when it ended; how many updates are newly given up."""

        async def work(connection: AsyncConnection) -> tuple[Verdict, frozenset[int], int]:
            await self._inbox.note_interrupted(
                connection, f"the process ended: {previous_failure or 'nobody knows how'}"
            )
            interrupted, marked = await self._inbox.interrupted(connection), await self._inbox.suspected(connection)
            seen_together = frozenset(row for row, mark in marked.items() if mark is Mark.TOGETHER)
            condemned = frozenset(row for row, mark in marked.items() if mark is Mark.GUILTY)
            verdict = judge(previous_failure, interrupted, self._limits.attempts, seen_together, frozenset(marked))
            new = verdict.guilty - condemned
            verdict = replace(verdict, guilty=verdict.guilty | condemned)
            await self._inbox.excuse(connection, sorted(verdict.excused))
            if previous_failure == "signal":
                kills = await self._inbox.killed(connection, sorted(verdict.excused))
                often = frozenset(row for row, number in kills.items() if number >= KILLS)
                verdict = replace(verdict, suspected=verdict.suspected | often)
            await self._inbox.suspect(connection, sorted(verdict.suspected), together=len(interrupted) > 1)
            await self._inbox.condemn(connection, sorted(verdict.guilty))
            return verdict, (verdict.suspected | frozenset(marked)) - verdict.guilty, len(new)

        verdict, suspected, new = await self._database.transaction(work)
        self._suspected |= suspected
        self._guilty = verdict.guilty
        if verdict.excused or verdict.suspected or verdict.guilty:
            _log.warning(
                "updates were interrupted by the end of the process",
                failure=previous_failure or "unknown",
                excused=len(verdict.excused),
                tried_alone=len(suspected),
                given_up=len(verdict.guilty),
            )
        return new

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
            self._suspected.discard(scope.inbox_id)
            self._guilty -= {scope.inbox_id}  # an operator may revive it
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
