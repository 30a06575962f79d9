"""Jobs of one bot at work: kept, found when they are due, and put into the inbox; from there callbacks are called.

A due job's inbox row and its next time are one commit, so that it runs once for each time, whatever happens. It is then
handled exactly as an update is: attempts, dead letters, journaled sends.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.faults import brief
from botctl.bot.handling.scope import active
from botctl.bot.jobs.rules import SET_BACK, Job, kind_of, pulled_back, row_of, settled
from botctl.bot.receiving.intake import Intake
from botctl.errors import BotctlError
from botctl.storage.inbox import Inbox
from botctl.storage.jobs import Jobs, StoredJob

_log = structlog.get_logger("botctl.bot.jobs.desk")

Callback = Callable[[Job], Awaitable[None]]

_AT_ONCE = 100
_AFTER_FAULT = 5.0
_LOOK = 60.0
"""Seconds after which it looks again, whatever is due next: the system's clock may have been put forward."""


class UnknownJobError(BotctlError):
    """A job is due, and no callback is registered for it."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"no callback for the job {name}", hint=f'Register one: bot.on_job("{kind_of(name)}", callback)'
        )


class JobDesk:
    """`now` gives seconds since the epoch, `clock` is monotonic."""

    def __init__(
        self,
        database: Database,
        jobs: Jobs,
        inbox: Inbox,
        intake: Intake,
        now: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._jobs = jobs
        self._inbox = inbox
        self._intake = intake
        self._now = now
        self._clock = clock
        self._ahead: float | None = None
        """By how much `now` was ahead of `clock` when it was last compared."""
        self._callbacks: dict[str, Callback] = {}
        self._changed = asyncio.Event()

    @property
    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now()

    def register(self, name: str, callback: Callback) -> None:
        """Call this for jobs of this name. Raises ValueError for a name with a colon, and for a second callback."""
        if kind_of(name) != name or not name:
            raise ValueError(f"{name!r}: callbacks are registered for the part of a job's name before the colon")
        if name in self._callbacks:
            raise ValueError(f"there is a callback for jobs named {name} already")
        self._callbacks[name] = callback

    async def call(self, job: Job) -> None:
        """Call a job's callback. Raises UnknownJobError."""
        callback = self._callbacks.get(kind_of(job.name))
        if callback is None:
            raise UnknownJobError(job.name)
        await callback(job)

    async def put(self, job: StoredJob) -> None:
        """Keep a job, in the place of one of the same name; with the end of the running handling, if there is one."""
        await self._change(lambda connection: self._jobs.put(connection, job))

    async def cancel(self, name: str) -> None:
        """Forget a job; with the end of the running handling, if there is one."""

        async def work(connection: AsyncConnection) -> None:
            await self._jobs.cancel(connection, name)

        await self._change(work)

    async def waiting(self) -> list[StoredJob]:
        """All that wait, the next first."""
        return await self._database.statement(self._jobs.waiting)

    async def run(self) -> None:
        """Find what is due until cancelled; whatever goes wrong once, the next jobs are not forgotten."""
        while True:
            try:
                await self._run()
            except Exception as error:
                _log.error("jobs can't be looked for; trying on", error=brief(error), exc_info=error)
                await asyncio.sleep(_AFTER_FAULT)

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            await self._see_to_clock()
            first = await self._database.statement(self._jobs.first)
            if first is not None and first <= self._now():
                await self._fire()
                continue
            delay = _LOOK if first is None else min(first - self._now(), _LOOK)
            try:
                async with asyncio.timeout(max(delay, 0.001)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _see_to_clock(self) -> None:
        """A clock that was ahead has taken repeated jobs along: when it is set back, so are they.

        Looked for at the start, and whenever the clock has gone back.
        """
        ahead, before = self._now() - self._clock(), self._ahead
        if before is not None and ahead > before - SET_BACK:
            self._ahead = max(ahead, before)
            return
        now = self._now()

        async def work(connection: AsyncConnection) -> list[str]:
            jobs = await self._jobs.set_after(connection, now + SET_BACK)
            back = [(job, due) for job in jobs if (due := pulled_back(job, now)) is not None]
            return sorted(await self._jobs.fired(connection, back, now))

        if names := await self._database.transaction(work):
            _log.warning("the clock has been set back; jobs were pulled back with it", jobs=names)
        self._ahead = ahead

    async def _fire(self) -> None:
        now = self._now()

        async def work(connection: AsyncConnection) -> tuple[list[str], list[str]]:
            due = await self._jobs.due(connection, now, _AT_ONCE)
            fired = [settled(job, now) for job in due]
            names = await self._jobs.fired(connection, fired, now)
            rows = [row_of(job, secrets.token_hex(8)) for job, _ in fired if job.name in names]
            stored = await self._inbox.store(connection, rows)
            return sorted(names), [row.cause for row in rows if row.cause not in stored]

        names, known = await self._database.transaction(work)
        if names:
            _log.info("jobs are due", jobs=names)
        for cause in known:
            _log.warning("a job has run for this very time already, and doesn't run again", cause=cause)
        await self._intake.look()

    async def _change(self, work: Callable[[AsyncConnection], Awaitable[Any]]) -> None:
        scope = active()
        if scope is None:
            await self._database.statement(work)
            self._changed.set()
            return

        async def with_commit(connection: AsyncConnection) -> None:
            await work(connection)
            # The commit follows within milliseconds; the next look comes by itself if this one was too early.
            asyncio.get_running_loop().call_later(0.05, self._changed.set)

        scope.kept.append(with_commit)
