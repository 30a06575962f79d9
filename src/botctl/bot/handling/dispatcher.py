"""Keeps the lanes going: as many chats at the same time as the bot may have, each in its own task.

A lane's place is free again while its answer is being delivered or its next attempt is awaited.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from botctl.bot.faults import brief
from botctl.bot.handling.attempt import Handled
from botctl.bot.live_limits import LiveLimits
from botctl.bot.receiving.intake import Intake
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.receiving.updates import chat_of_lane
from botctl.bot.sending.sender import Outgoing
from botctl.bot.tasks import end, stack_of
from botctl.storage.inbox import InboxRow

_log = structlog.get_logger("botctl.bot.handling.dispatcher")

_AFTER_CANCEL = 5.0

_AFTER_FAULT = 1.0
"""Seconds after which the backlog is read again when that has failed: nothing else may come that leads to it."""

_AFTER_BREAK = 30.0
_MOST_BREAKS = 3
"""Attempts at a row that broke by a fault of ours, after which it is left to the next incarnation; its lane goes on."""

STUCK_AFTER = 60.0
"""Seconds after which a handling that hasn't ended is told as stuck. It keeps its lane: to end it could do worse."""


@dataclass
class _UnderWay:
    row: InboxRow
    since: float
    told: bool = False


class Dispatcher:
    """`handle` makes one attempt at a row, `deliver` sends what was committed with it. `now` is monotonic."""

    def __init__(
        self,
        lanes: Lanes,
        intake: Intake,
        handle: Callable[[InboxRow], Awaitable[Handled]],
        deliver: Callable[[list[Outgoing]], Awaitable[None]],
        *,
        limits: LiveLimits,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lanes = lanes
        self._intake = intake
        self._handle = handle
        self._deliver = deliver
        self._limits = limits
        self._now = now
        self._changed = asyncio.Event()
        self._running = 0
        self._handling: dict[asyncio.Task[None], _UnderWay] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._refill: asyncio.Task[None] | None = None
        self._breaks: dict[int, int] = {}

    def stuck(self) -> int:
        """How many handlings don't end; each is logged once, with its stack."""
        now, stuck = self._now(), 0
        for task, under_way in self._handling.items():
            if now - under_way.since < STUCK_AFTER:
                continue
            stuck += 1
            if not under_way.told:
                under_way.told = True
                _log.warning(
                    "a handler does not end; its chat waits",
                    cause=under_way.row.cause,
                    lane=under_way.row.lane,
                    trace_id=under_way.row.trace_id,
                    seconds=round(now - under_way.since),
                    stack=stack_of(task),
                )
        return stuck

    def wake(self) -> None:
        """There may be more to do."""
        self._changed.set()

    async def run(self) -> None:
        """Take and handle rows until cancelled; what is under way then goes on until `drain`."""
        while True:
            self._changed.clear()
            while self._running < self._limits.places and (row := self._lanes.take(self._now())) is not None:
                self._running += 1
                task = asyncio.create_task(self._work_off(row), name=f"lane {row.lane}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            if self._intake.wants_refill and (self._refill is None or self._refill.done()):
                self._refill = asyncio.create_task(self._intake.refill(), name="refill")
                self._refill.add_done_callback(self._refilled)
            wake_at = self._lanes.wake_at()
            timeout = None if wake_at is None else max(wake_at - self._now(), 0.001)
            try:
                async with asyncio.timeout(timeout):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def drain(self, timeout: float) -> int:
        """After `run` was cancelled: let what is under way end; returns how many had to be interrupted."""
        if self._refill is not None:
            await end([self._refill])
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(timeout, 0.0))
        left = [task for task in self._tasks if not task.done()]
        try:
            async with asyncio.timeout(1.0):
                await end(left)
        except TimeoutError:
            _log.warning("some updates don't let themselves be interrupted")
        return len(left)

    def _refilled(self, refill: asyncio.Task[None]) -> None:
        if not refill.cancelled() and (error := refill.exception()) is not None:
            _log.error("the backlog can't be read; trying again", error=brief(error), exc_info=error)
            asyncio.get_running_loop().call_later(_AFTER_FAULT, self.wake)

    async def _work_off(self, row: InboxRow) -> None:
        structlog.contextvars.bind_contextvars(trace_id=row.trace_id, cause=row.cause, chat_id=chat_of_lane(row.lane))
        again: InboxRow | None = None
        left = False
        task = asyncio.current_task()
        assert task is not None
        self._handling[task] = _UnderWay(row, self._now())
        try:
            try:
                handled = await self._handle(row)
            except asyncio.CancelledError:
                # The end of the process; or the bot's own code cancels every task, and the row comes once more.
                again = dataclasses.replace(row, next_attempt_at=self._now() + _AFTER_CANCEL, replayed=True)
                raise
            except Exception:
                # Neither the handlers' nor the environment's fault: ours. What comes after it in its chat waits.
                breaks = self._breaks[row.inbox_id] = self._breaks.get(row.inbox_id, 0) + 1
                left = breaks >= _MOST_BREAKS
                if not left:
                    again = dataclasses.replace(row, next_attempt_at=self._now() + _AFTER_BREAK, replayed=True)
                raise
            finally:
                self._running -= 1
                del self._handling[task]
                self._changed.set()
            again = handled.again
            if handled.outgoing:
                await self._deliver(handled.outgoing)
        except Exception as error:
            _log.critical("a lane broke", lane=row.lane, error=brief(error), left=left, exc_info=error)
        finally:
            if again is None:
                self._breaks.pop(row.inbox_id, None)
            self._lanes.release(row.lane, self._now(), again=again, left=left)
            self._changed.set()
