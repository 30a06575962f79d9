"""The beginning of an attempt, in one transaction: count it, note the person, keep the message, read the journal."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.exchange.publishing import Publisher
from botctl.bot.handling.conversing import Acquaintances, OpenConversations
from botctl.bot.handling.scope import Scope
from botctl.bot.receiving.incoming import Incoming
from botctl.bot.vitals.health import Health
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.inbox import Inbox, InboxRow
from botctl.storage.outbox import StoredEvent
from botctl.storage.sends import SendRow, Sends


class Starter:
    """`now` gives seconds since the epoch."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        sends: Sends,
        conversations: Conversations,
        open_conversations: OpenConversations,
        publisher: Publisher,
        health: Health,
        *,
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._sends = sends
        self._conversations = conversations
        self._open = open_conversations
        self._publisher = publisher
        self._health = health
        self._now = now
        self._acquaintances = Acquaintances()

    async def begin(self, row: InboxRow, scope: Scope, incoming: Incoming, *, keep: bool) -> bool:
        """Begin an attempt; False when the row waits no more. `keep`: whether the message is to be kept."""
        person = incoming.person if keep else None
        meet = person is not None and not self._acquaintances.is_fresh(person, self._now())

        async def work(connection: AsyncConnection) -> tuple[bool, list[SendRow], list[StoredEvent]]:
            if not await self._inbox.begin_attempt(connection, row.inbox_id, scope.attempt):
                return False, [], []
            if meet and person is not None:
                await self._conversations.meet(connection, person)
            events: list[StoredEvent] = []
            if keep and incoming.message is not None and scope.chat_id is not None:
                events = await self._keep(connection, scope, incoming)
            rows = await self._sends.of_cause(connection, row.cause) if row.replayed else []
            return True, rows, events

        first = self._inbox.beginning(row.inbox_id, scope.attempt)
        waits, rows, events = await self._database.transaction(work, first=first)
        if not waits:
            return False
        scope.attempt_counted = True
        scope.journal.begin(rows)
        scope.events += events
        if person is not None and meet:
            self._acquaintances.noted(person, self._now())
        if events and scope.attempt == 1:
            self._health.count("messages_in")
        return True

    async def _keep(self, connection: AsyncConnection, scope: Scope, incoming: Incoming) -> list[StoredEvent]:
        assert incoming.message is not None
        assert scope.chat_id is not None
        conversation_id, begun = await self._open.get(connection, scope.chat_id, scope.thread_id)
        scope.conversation_id = conversation_id
        message = StoredMessage(
            conversation_id=conversation_id,
            chat_id=scope.chat_id,
            thread_id=scope.thread_id,
            direction="in",
            role="user",
            text=incoming.text,
            cause=scope.cause,
            user_id=scope.user_id,
            telegram_message_id=incoming.message.get("message_id"),
            entities=incoming.message.get("entities") or incoming.message.get("caption_entities"),
            trace_id=scope.trace_id,
        )
        await self._conversations.add(connection, [message])
        # They go out with the end of the attempt; their ids are the same when a crash makes it begin again.
        events = [self._publisher.received(scope, message, incoming.kind)]
        if begun:
            events.append(self._publisher.conversation(scope, "started", conversation_id))
        return events
