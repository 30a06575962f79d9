"""Requests to other bots: asks, awaits the reply, and knows after a crash what it has asked and what came of it.

A request is committed and published at once. Replies come past the inbox, straight from the mailbox, into the table of
requests; so a handler that waits for one waits for no lane. While it waits it lends its place to another handling, and
isn't suspected of what ends the process meanwhile.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.exchange.publishing import Publisher, digest_of
from botctl.bot.faults import brief, data_refused
from botctl.bot.handling.scope import Scope, active
from botctl.bot.handling.suspects import Suspects
from botctl.bot.live_limits import LiveLimits
from botctl.bot.vitals.health import Health
from botctl.bus.events import Event
from botctl.bus.routing.requests import LONGEST_TIMEOUT
from botctl.errors import RequestRefusedError, RequestTimeoutError
from botctl.storage.cleaning import clean, clean_text
from botctl.storage.inbox import Inbox
from botctl.storage.requests import Requests, RequestState, StoredReply, StoredRequest

_BOT = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")

GRACE = 2.0
"""Seconds that a replay waits at least: the reply may have come while the process was down."""

_log = structlog.get_logger("botctl.bot.exchange.asking")


class Asking:
    """`wake` is called when events were committed, `listen` when replies are to be expected, `changed` when another
    handling may begin. `now` gives seconds since the epoch."""

    def __init__(
        self,
        database: Database,
        requests: Requests,
        inbox: Inbox,
        publisher: Publisher,
        suspects: Suspects,
        health: Health,
        limits: LiveLimits,
        *,
        wake: Callable[[], None],
        listen: Callable[[], None],
        changed: Callable[[], None],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._requests = requests
        self._inbox = inbox
        self._publisher = publisher
        self._suspects = suspects
        self._health = health
        self._limits = limits
        self._wake = wake
        self._listen = listen
        self._changed = changed
        self._now = now
        self._waiting: dict[str, asyncio.Future[StoredRequest]] = {}

    async def ask(self, target: str, type_: str, data: dict[str, Any], timeout: float) -> dict[str, Any]:
        """The reply's data. Raises RequestTimeoutError, RequestRefusedError; ValueError for an unfit timeout, and
        ProtocolError as `publish` does."""
        if _BOT.fullmatch(target) is None:
            raise ValueError(f"{target[:40]!r} is no bot's name or id")
        if not 0 < timeout <= LONGEST_TIMEOUT:
            raise ValueError(f"a timeout is more than 0 and at most {LONGEST_TIMEOUT:.0f} seconds")
        scope = active()
        within = scope is not None
        scope = scope or Scope.operation()
        # By what is asked, not by when: a replay may come to several requests in another order.
        digest = digest_of(type_, data)
        number = scope.asked[target, type_, digest]
        scope.asked[target, type_, digest] += 1
        self._listen()
        for turn in range(1000):
            which = f"{turn}:{number}:{digest}"
            event = self._publisher.request(scope, target, type_, data, self._now() + timeout, which)
            future = asyncio.get_running_loop().create_future()
            self._waiting[event.event_id] = future
            try:
                async with self._aside(scope, within) as noted:
                    found = await noted(event)
                    if found.state is RequestState.WAITING:
                        self._wake()
                        found = await self._await(found, future)
            finally:
                self._waiting.pop(event.event_id, None)
            if found.state is not RequestState.VOID:
                return self._outcome(found, target, type_)
        raise RequestTimeoutError(f"{type_} was asked of {target} too often for one cause")

    async def take(self, events: Sequence[Event]) -> None:
        """Replies from the mailbox. When this returns they are stored, or nobody waits for them."""
        replies = [
            StoredReply(
                clean_text(str(event.reply_to)),
                event.source,
                event.source_name or "",
                clean(event.data),
                clean_text(event.error or ""),
            )
            for event in events
        ]
        if not replies:
            return
        stored = await self._store(replies)
        # One that was stored by a commit whose answer was lost is there as well.
        wanted = [one.request_id for one in replies if one.request_id in self._waiting or one.request_id in stored]
        found = await self._database.statement(lambda connection: self._requests.find(connection, wanted))
        for reply in replies:
            request = found.get(reply.request_id)
            if request is None or request.state is RequestState.WAITING:
                self._health.count("late_replies")
                _log.info("a reply came that nobody waits for", request=reply.request_id, source=reply.source)
                continue
            future = self._waiting.get(reply.request_id)
            if future is not None and not future.done():
                future.set_result(request)

    async def _store(self, replies: Sequence[StoredReply]) -> frozenset[str]:
        """The requests that waited for one. What the database refuses together is stored one by one, and alone left."""
        try:
            return await self._database.statement(lambda connection: self._requests.answer(connection, replies))
        except Exception as error:
            if not data_refused(error):
                raise
            if len(replies) == 1:
                [one] = replies
                _log.error("a reply can't be stored", request=one.request_id, source=one.source, error=brief(error))
                return frozenset()
        return frozenset().union(*[await self._store([one]) for one in replies])

    async def _await(self, request: StoredRequest, future: asyncio.Future[StoredRequest]) -> StoredRequest:
        seconds = max(request.deadline - self._now(), GRACE)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(future)
        except TimeoutError:
            pass

        async def give_up(connection: AsyncConnection) -> StoredRequest:
            await self._requests.expire(connection, request.request_id)
            return (await self._requests.find(connection, [request.request_id]))[request.request_id]

        return await self._database.transaction(give_up)

    @asynccontextmanager
    async def _aside(self, scope: Scope, within: bool) -> AsyncIterator[Callable[[Any], Any]]:
        """While the handling waits it is not what is worked on. Gives what notes the request, and commits that."""
        aside = False

        async def note(event: Any) -> StoredRequest:
            nonlocal aside

            async def work(connection: AsyncConnection) -> StoredRequest:
                envelope = event.envelope
                found = await self._requests.add(
                    connection, event.event_id, scope.cause, envelope["to"], event.type, envelope["deadline"],
                    scope.trace_id,
                )  # fmt: skip
                if found.state is RequestState.WAITING:
                    await self._publisher.store(connection, event)
                    if within and not scope.asking:
                        await self._inbox.step_back(connection, scope.inbox_id, scope.attempt - 1)
                return found

            found = await self._database.transaction(work)
            if within and found.state is RequestState.WAITING:
                aside = True
                scope.asking += 1
                if scope.asking == 1:
                    scope.attempt_counted = False
                    await self._suspects.leave(scope)
            return found

        if not within:
            yield note
            return
        with self._limits.lending():
            self._changed()
            try:
                yield note
            finally:
                if aside:
                    scope.asking -= 1
                    if not scope.asking and not scope.closed:
                        await self._back(scope)

    async def _back(self, scope: Scope) -> None:
        await self._suspects.enter(scope)
        await self._database.statement(
            lambda connection: self._inbox.begin_attempt(connection, scope.inbox_id, scope.attempt, again=True)
        )
        scope.attempt_counted = True

    def _outcome(self, found: StoredRequest, target: str, type_: str) -> dict[str, Any]:
        if found.state is RequestState.ANSWERED:
            return found.reply
        self._health.count("requests_failed")
        if found.state is RequestState.EXPIRED:
            raise RequestTimeoutError(f"{target} has not answered {type_} in time")
        detail = str(found.reply.get("detail", ""))
        words = f"{target} doesn't answer {type_}: {found.error}" + (f" ({detail})" if detail else "")
        raise RequestRefusedError(words, found.error)
