"""The end of an attempt, in one commit: answers, planned sends, events, and the inbox row done.

Whatever is committed here is idempotent, so that a commit whose outcome was lost can be made once more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.faults import traceback_of
from botctl.bot.handling.conversing import OpenConversations
from botctl.bot.handling.scope import Reply, Scope
from botctl.bot.keeping.memory import KeptMemory
from botctl.bot.sending.sender import Outgoing, Sender, begun, send_row
from botctl.bot.vitals.health import Health
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.inbox import Inbox
from botctl.storage.outbox import StoredEvent
from botctl.storage.persistence import KeptRow
from botctl.storage.sends import SendRow, Sends


class Committer:
    """`wake` is called when events were committed; `upon_failure` is done with the end of an attempt that failed."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        sends: Sends,
        conversations: Conversations,
        open_conversations: OpenConversations,
        publisher: Publisher,
        sender: Sender,
        health: Health,
        memory: KeptMemory,
        wake: Callable[[], None],
        upon_failure: Sequence[Callable[[AsyncConnection, str], Awaitable[None]]] = (),
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._sends = sends
        self._conversations = conversations
        self._open = open_conversations
        self._publisher = publisher
        self._sender = sender
        self._health = health
        self._memory = memory
        self._wake = wake
        self._upon_failure = upon_failure

    async def finish(self, scope: Scope) -> list[Outgoing]:
        """The attempt has succeeded. Returns the parts that are to be delivered now."""
        with _closing(scope):
            async with self._memory.ending(scope.draft) as kept:
                return await self._finish(scope, kept)

    async def _finish(self, scope: Scope, kept: Sequence[KeptRow]) -> list[Outgoing]:
        replies = scope.replies if scope.chat_id is not None else []
        rows = self._planned(scope, replies)
        abandoned: list[int] = []

        async def work(connection: AsyncConnection) -> tuple[list[Outgoing], bool]:
            outgoing: list[Outgoing] = []
            events = list(scope.events)
            if rows or scope.reset:
                conversation_id = await self._conversation(connection, scope) if replies or scope.reset else 0
                messages = [
                    self._message(scope, row, reply, conversation_id) for row, reply in zip(rows, replies, strict=False)
                ]
                await self._conversations.add(connection, messages)
                await self._sends.plan(connection, rows)
                outgoing = [Outgoing(row, messages[i] if i < len(messages) else None) for i, row in enumerate(rows)]
                if scope.reset:
                    await self._conversations.close(connection, conversation_id)
                    events.append(self._publisher.conversation(scope, "reset", conversation_id))
            await self._publisher.store(connection, *events)
            await self._memory.store(connection, kept)
            for also in scope.kept:
                await also(connection)
            abandoned.append(await self._abandon(connection, scope, "not repeated on the replay, or cut short"))
            await self._inbox.done(connection, scope.inbox_id)
            return outgoing, bool(events)

        outgoing, woken = await self._database.transaction(work)
        self._count_uncertain(abandoned)
        if scope.reset and scope.chat_id is not None:
            self._open.forget(scope.chat_id, scope.thread_id)
        if woken:
            self._wake()
        return outgoing

    async def postpone(
        self, scope: Scope, reason: str, delay: float, *, counts: bool, failure: Exception | None = None
    ) -> None:
        """The attempt has failed and there will be another one."""
        attempts = scope.attempt if counts else scope.attempt - 1
        event = self._publisher.handler_failed(scope, failure, reason, dead=False) if failure is not None else None
        await self._end(
            scope,
            lambda connection: self._inbox.postpone(
                connection,
                scope.inbox_id,
                reason,
                delay,
                attempts,
                attempt=scope.attempt,
                traceback=traceback_of(failure),
            ),
            event,
        )

    async def bury(self, scope: Scope, error: BaseException, reason: str) -> None:
        """The row is given up."""
        event = self._publisher.handler_failed(scope, error, reason, dead=True)
        left: list[int] = []

        async def end(connection: AsyncConnection) -> None:
            await self._inbox.dead(
                connection, scope.inbox_id, reason, attempt=scope.attempt, traceback=traceback_of(error)
            )
            if scope.journal.leftovers:
                left.append(await self._sender.leave(connection, self._sends, scope.cause, "given up with its cause"))

        await self._end(scope, end, event)
        self._count_uncertain(left)

    async def uncount(self, scope: Scope) -> None:
        """The attempt was interrupted by the end of the process."""
        scope.attempt_counted = False
        await self._database.statement(
            lambda connection: self._inbox.interrupt(
                connection, scope.inbox_id, scope.attempt, "the bot was asked to end"
            )
        )

    async def _end(self, scope: Scope, end: Callable[[AsyncConnection], Any], event: StoredEvent | None) -> None:
        if scope.chat_id is not None:
            self._open.forget(scope.chat_id, scope.thread_id)

        async def work(connection: AsyncConnection) -> None:
            await end(connection)
            for undo in self._upon_failure:
                await undo(connection, scope.cause)
            if event is not None:
                await self._publisher.store(connection, event)

        with _closing(scope):
            await self._database.transaction(work)
        if event is not None:
            self._wake()

    async def _conversation(self, connection: AsyncConnection, scope: Scope) -> int:
        if scope.conversation_id is not None:
            return scope.conversation_id
        assert scope.chat_id is not None
        conversation_id, _ = await self._open.get(connection, scope.chat_id, scope.thread_id)
        return conversation_id

    def _planned(self, scope: Scope, replies: list[Reply]) -> list[SendRow]:
        """The rows of what is to be sent; the first one is begun with the commit if flood control lets it go now."""
        calls = [("sendMessage", self._payload(scope, reply)) for reply in replies] + scope.calls
        first = scope.journal.reserve(len(calls)) if calls else 0
        rows = [
            send_row(scope.cause, first + i, scope.trace_id, payload, method)
            for i, (method, payload) in enumerate(calls)
        ]
        if rows and self._sender.take(rows[0]):
            rows[0] = begun(rows[0])
        return rows

    async def _abandon(self, connection: AsyncConnection, scope: Scope, reason: str) -> int:
        return await self._sends.abandon_of_cause(connection, scope.cause, reason) if scope.journal.leftovers else 0

    def _count_uncertain(self, found: Sequence[int]) -> None:
        """Work may be done several times until it is committed; a time after its commit finds nothing any more."""
        self._health.count("sends_uncertain", max(found, default=0))

    def _payload(self, scope: Scope, reply: Reply) -> dict[str, Any]:
        payload: dict[str, Any] = {"chat_id": scope.chat_id, "text": reply.text}
        if reply.entities:
            payload["entities"] = reply.entities
        if scope.thread_id:
            payload["message_thread_id"] = scope.thread_id
        return payload

    def _message(self, scope: Scope, row: SendRow, reply: Reply, conversation_id: int) -> StoredMessage:
        assert scope.chat_id is not None
        completion = scope.completion if reply.role == "assistant" else None
        figures = completion if reply is scope.replies[0] else None  # once for the whole answer, not for each part
        return StoredMessage(
            conversation_id=conversation_id,
            chat_id=scope.chat_id,
            thread_id=scope.thread_id,
            direction="out",
            role=reply.role,
            text=reply.text,
            cause=scope.cause,
            part=row.n,
            entities=reply.entities or None,
            trace_id=scope.trace_id,
            model=completion.model if completion is not None else None,
            input_tokens=figures.input_tokens if figures is not None else None,
            output_tokens=figures.output_tokens if figures is not None else None,
        )


@contextmanager
def _closing(scope: Scope) -> Iterator[None]:
    """While it is committed and afterwards nothing more gets into it: what tasks publish then commits on its own.

    They would add to what has been read already, and be lost without a word.
    """
    scope.closed = True
    try:
        yield
    except BaseException:
        scope.closed = False
        raise
    scope.over.set()
