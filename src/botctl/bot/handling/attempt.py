"""The handling of one inbox row: begin an attempt, let the handlers work, commit what came of it.

An attempt ends in one of four ways: done, with everything it led to in one commit; postponed; a dead letter; or
unfinished because the process ends, which the next incarnation makes up for.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
import structlog
from telegram import Update

from botctl.bot.database import Database
from botctl.bot.faults import brief, environmental
from botctl.bot.handling.commit import Committer
from botctl.bot.handling.scope import Scope, active, current
from botctl.bot.handling.starting import Starter
from botctl.bot.handling.suspects import Suspects
from botctl.bot.jobs.rules import Job, read_job
from botctl.bot.live_limits import LiveLimits
from botctl.bot.receiving.ignored import Ignored
from botctl.bot.receiving.incoming import Incoming, read_incoming
from botctl.bot.sending.bot_api import ScopedApplication
from botctl.bot.sending.journal import NotRepeatedError
from botctl.bot.sending.operations import read_operation
from botctl.bot.sending.sender import Outgoing
from botctl.bot.sending.whereabouts import Whereabouts
from botctl.bot.vitals.health import Health
from botctl.bot.vitals.shortage import Shortage
from botctl.bus.events import Event, decode_event
from botctl.errors import ProtocolError, VaultError
from botctl.fleet.model import Access
from botctl.storage.inbox import InboxRow

_log = structlog.get_logger("botctl.bot.handling.attempt")

React = Callable[[Event], Awaitable[None]]

_FIRST_DELAY = 0.5
_MAX_DELAY = 30.0
_PATIENCE = 40
"""Waits for the surroundings, about twenty minutes, after which even they count: a lane must go on some day."""


_OLD_CHAT_FIRST = 60.0
"""Seconds that a supergroup waits for what was said in the group it was; a handler there may hang."""

_NOT_OF_USERS = frozenset({"event", "job", "operation"})
"""Kinds of rows that are no update of a user: whether they are handled well says nothing of how users are served."""


class HandlerCancelledError(Exception):
    """Handlers ended with CancelledError though the process goes on: it was the bot's own code that cancelled."""


@dataclass(frozen=True)
class Handled:
    """How an attempt ended: parts to deliver, or the row to take again when it is due."""

    outgoing: list[Outgoing] = field(default_factory=list)
    again: InboxRow | None = None


class Handling:
    """Works off rows; `react` is given the events of the mailbox.

    `now` gives seconds since the epoch; `clock` is monotonic, for the time of the next attempt.
    """

    def __init__(
        self,
        application: ScopedApplication,
        database: Database,
        starter: Starter,
        committer: Committer,
        health: Health,
        access: Access,
        react: React,
        *,
        whereabouts: Whereabouts,
        do_job: Callable[[Job], Awaitable[None]],
        has_lane: Callable[[str], bool],
        suspects: Suspects,
        shortage: Shortage,
        limits: LiveLimits,
        ignored: Ignored,
        now: Callable[[], float],
        clock: Callable[[], float],
    ) -> None:
        self._application = application
        self._database = database
        self._starter = starter
        self._committer = committer
        self._health = health
        self._access = access
        self._react = react
        self._whereabouts = whereabouts
        self._do_job = do_job
        self._has_lane = has_lane
        self._early: dict[str, float] = {}
        self._suspects = suspects
        self._shortage = shortage
        self._limits = limits
        self._ignored = ignored
        self._now = now
        self._clock = clock
        self._waits: dict[str, int] = {}
        self._failures: set[str] = set()

    async def handle(self, row: InboxRow) -> Handled:
        """One attempt at a row. Raises only CancelledError, when the task itself is cancelled: the process ends."""
        if (rests_until := self._suspects.rests_until(row.inbox_id)) > self._clock():
            return Handled(again=_again(row, row.attempts, rests_until))
        scope = Scope(cause=row.cause, trace_id=row.trace_id, inbox_id=row.inbox_id, attempt=row.attempts + 1)
        try:
            return await self._attempt(row, scope)
        except asyncio.CancelledError as error:
            if not _is_cancelled():
                # The bot's own code has cancelled the handlers' task, or something that they were waiting for.
                failure = HandlerCancelledError("the handler, or what it was waiting for, has been cancelled")
                failure.__cause__ = error
                return await self._failed(row, scope, failure)
            if scope.attempt_counted and not scope.closed:
                # The attempt was interrupted, which is not the update's fault.
                await asyncio.shield(self._committer.uncount(scope))
            raise
        except Exception as error:
            return await self._failed(row, scope, error)
        finally:
            scope.closed = True
            scope.over.set()
            await self._suspects.leave(scope, finished=True)

    async def _attempt(self, row: InboxRow, scope: Scope) -> Handled:
        if self._suspects.is_guilty(row.inbox_id):
            scope.attempt = row.attempts
            reason = f"the process ended while it worked on this alone; attempts: {row.attempts}"
            return await self._bury(scope, RuntimeError(reason), reason)
        try:
            work, incoming = self._understand(row)
        except Exception as error:
            return await self._bury(scope, error, f"can't be read: {brief(error)}")
        scope.chat_id, scope.thread_id, scope.user_id = incoming.chat_id, incoming.thread_id, incoming.user_id
        now = self._now()
        flooding = self._ignored.holds(incoming.user_id, now)
        admitted = self._access.admits(incoming.user_id) and not flooding
        if self._comes_too_early(row, incoming):
            return Handled(again=_again(row, row.attempts, self._clock() + _FIRST_DELAY))
        if incoming.raw is not None:
            await self._whereabouts.read(incoming.kind, incoming.raw, row.cause, row.trace_id)
        await self._suspects.enter(scope)
        if not await self._starter.begin(row, scope, incoming, keep=admitted):
            return Handled()
        for user_id, count in self._ignored.due(now):
            _log.warning("ignored: more of a sender who floods", user_id=user_id, updates=count)
        if flooding and incoming.user_id is not None:
            if self._ignored.is_first(incoming.user_id, now):
                _log.warning("ignored: its sender floods, and is set aside for a time", user_id=incoming.user_id)
            self._health.count("ignored")
            return await self._finish(row, scope)
        if not admitted:
            _log.info("refused by access rules", user_id=incoming.user_id)
            if self._access.refusal and incoming.kind in ("message", "callback_query") and scope.chat_id is not None:
                scope.reply("system", self._access.refusal)
            return await self._finish(row, scope)
        current.set(scope)
        if incoming.kind == "job" and scope.chat_id is not None:
            await self._application.load_data(chats=[scope.chat_id])
        try:
            with suppress(NotRepeatedError):  # of a job, say; python-telegram-bot's own are among the errors
                # In a task of its own: handlers may cancel their task, and must not hit what is stored afterwards.
                ended = await asyncio.create_task(_run(work), name=f"handlers of {row.cause}")
                if ended is not None:
                    raise ended
            while pending := [task for task in scope.tasks if not task.done()]:
                await asyncio.wait(pending)
        finally:
            for task in scope.tasks:
                if not task.done():
                    task.cancel()
        self._application.settle()
        failure = next((error for error in scope.errors if not isinstance(error, NotRepeatedError)), None)
        if failure is not None:
            return await self._failed(row, scope, failure)
        handled = await self._finish(row, scope)
        if scope.apology:
            self._count_failure(row)
        elif row.kind not in _NOT_OF_USERS:
            self._health.count("handled")
        self._failures.discard(row.cause)
        return handled

    def _comes_too_early(self, row: InboxRow, incoming: Incoming) -> bool:
        """Whether what waits for a group comes before this, the first message of what it has become."""
        old = incoming.moved_from
        if old is None or not self._has_lane(f"chat:{old}"):
            self._early.pop(row.cause, None)
            return False
        return self._clock() < self._early.setdefault(row.cause, self._clock() + _OLD_CHAT_FIRST)

    def _understand(self, row: InboxRow) -> tuple[Callable[[], Awaitable[None]], Incoming]:
        if row.fault:
            _log.error("an update can't be opened", why=row.fault)
            raise VaultError(row.fault)
        if row.kind == "event":
            event = decode_event(row.payload.encode())
            return (lambda: self._react(event)), Incoming("event")
        if row.kind == "job":
            job = read_job(row.payload, self._now())
            return (lambda: self._do_job(job)), Incoming("job", job.chat_id)
        if row.kind == "operation":
            call, incoming = read_operation(row.payload)
            return (lambda: _plan(call)), incoming
        raw: dict[str, Any] = msgspec.json.decode(row.payload)
        incoming = read_incoming(row.kind, raw)
        update = Update.de_json(raw, self._application.bot)
        if update is None:
            raise ProtocolError("an empty update")
        return (lambda: self._process(update)), dataclasses.replace(incoming, raw=raw)

    async def _process(self, update: Update) -> None:
        await self._application.prepare(update)
        self._application.take_along_with(update)
        await self._application.process_update(update)

    async def _finish(self, row: InboxRow, scope: Scope) -> Handled:
        outgoing = await self._committer.finish(scope)
        self._waits.pop(row.cause, None)
        _log.info("handled", attempt=scope.attempt, parts=len(outgoing))
        return Handled(outgoing)

    async def _failed(self, row: InboxRow, scope: Scope, error: Exception) -> Handled:
        try:
            return await self._weigh(row, scope, error)
        finally:
            self._shortage.met(error)

    async def _weigh(self, row: InboxRow, scope: Scope, error: Exception) -> Handled:
        reason = brief(error)
        waits = self._waits.get(row.cause, 0)
        if environmental(error) and waits < _PATIENCE:
            waits = self._waits[row.cause] = waits + 1
            delay = min(_FIRST_DELAY * 2.0 ** min(waits, 10), _MAX_DELAY)
            _log.warning("handling waits for something outside", error=reason, retry_in=delay)
            await self._committer.postpone(scope, reason, delay, counts=False)
            return Handled(again=_again(row, row.attempts, self._clock() + delay))
        self._count_failure(row)
        if scope.attempt >= self._limits.attempts:
            self._failures.discard(row.cause)
            return await self._bury(scope, error, reason)
        delay = min(_FIRST_DELAY * 2.0 ** (scope.attempt - 1), _MAX_DELAY)
        _log.error("handling failed", attempt=scope.attempt, retry_in=delay, exc_info=error)
        await self._committer.postpone(scope, reason, delay, counts=True, failure=error)
        return Handled(again=_again(row, scope.attempt, self._clock() + delay))

    def _count_failure(self, row: InboxRow) -> None:
        """A user's update has not got its answer; further attempts at it are not counted again."""
        if row.kind not in _NOT_OF_USERS and row.cause not in self._failures:
            self._failures.add(row.cause)
            self._health.count("handler_failures")

    async def _bury(self, scope: Scope, error: BaseException, reason: str) -> Handled:
        self._health.count("dead_letters")
        self._waits.pop(scope.cause, None)
        await self._committer.bury(scope, error, reason)
        _log.error("became a dead letter", attempt=scope.attempt, reason=reason, exc_info=error)
        return Handled()


async def _run(work: Callable[[], Awaitable[None]]) -> BaseException | None:
    """What ends the process is handed over: a task that raises it stops the event loop before anybody has seen it."""
    try:
        await work()
    except (SystemExit, KeyboardInterrupt) as error:
        return error
    return None


async def _plan(call: tuple[str, dict[str, Any]]) -> None:
    """A call that is made when the handling is committed."""
    scope = active()
    if scope is not None:
        scope.calls.append(call)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _again(row: InboxRow, attempts: int, due: float) -> InboxRow:
    return dataclasses.replace(row, attempts=attempts, next_attempt_at=due, replayed=True)
