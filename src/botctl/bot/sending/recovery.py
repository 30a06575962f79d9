"""What an earlier process left in the send journal, taken up before new work of the same chat."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.faults import brief
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.sending.sender import Outgoing, Sender
from botctl.bot.vitals.health import Health
from botctl.errors import VaultError
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.sends import SendRow, Sends

_log = structlog.get_logger("botctl.bot.sending.recovery")

_ENDED = "the process ended during the call"


class Recovery:
    """`find` comes before the lanes begin; it holds back the lanes of the chats that `deliver` then serves.

    What was under way when the process ended is counted once, when it is found: then it is planned anew, or given up,
    as `repeats` says of its method. Ending again before it is called doesn't count it again.
    """

    def __init__(
        self,
        database: Database,
        sends: Sends,
        conversations: Conversations,
        sender: Sender,
        lanes: Lanes,
        health: Health,
        *,
        deliver: Callable[[Sequence[Outgoing]], Awaitable[None]],
        repeats: Callable[[str], bool],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._sends = sends
        self._conversations = conversations
        self._sender = sender
        self._lanes = lanes
        self._health = health
        self._deliver = deliver
        self._repeats = repeats
        self._now = now
        self._chats: dict[int | None, list[Outgoing]] = {}

    async def find(self) -> int:
        """Read what is left; returns how many sends."""

        found: list[int] = []

        async def work(connection: AsyncConnection) -> list[Outgoing]:
            uncertain = await self._sends.abandon(connection, "the process ended during the call; nothing repeats it")
            parts = []
            uncertain += await self._sender.leave(connection, self._sends, None, _ENDED)
            for row in await self._sends.unfinished(connection):
                if row.fault:
                    _log.error("a send can't be opened and is given up", cause=row.cause, n=row.n, why=row.fault)
                    await self._sends.failed(connection, row.cause, row.n, row.fault)
                    continue
                if row.state == "sending":
                    again = self._repeats(row.method)
                    await self._sends.hidden(connection, row.cause, row.n, _ENDED, again=again)
                    uncertain += 1
                    if not again:
                        continue
                    row = dataclasses.replace(row, state="planned", uncertain=row.uncertain + 1)
                parts.append(Outgoing(row, await self._message(connection, row)))
            found.append(uncertain)
            return parts

        parts = await self._database.transaction(work)
        self._health.count("sends_uncertain", max(found))  # done once more after its commit it finds none
        for part in parts:
            self._chats.setdefault(part.row.chat_id, []).append(part)
        for chat_id in self._chats:
            if chat_id is not None:
                self._lanes.hold(f"chat:{chat_id}")
        if parts:
            _log.info("sends were left by an earlier process", sends=len(parts), chats=len(self._chats))
        return len(parts)

    async def _message(self, connection: AsyncConnection, row: SendRow) -> StoredMessage | None:
        try:
            return await self._conversations.outgoing(connection, row.cause, row.n)
        except VaultError as error:
            _log.error("a message can't be opened; its send can", cause=row.cause, n=row.n, why=error.message)
            return None

    async def deliver(self, changed: Callable[[], None]) -> None:
        """Deliver them, chat by chat at the same time, and let the chats' lanes go on."""

        async def serve(chat_id: int | None, parts: list[Outgoing]) -> None:
            structlog.contextvars.bind_contextvars(trace_id=parts[0].row.trace_id, chat_id=chat_id)
            try:
                await self._deliver(parts)
            except Exception as error:
                # One chat's trouble; the next incarnation takes it up. The others' deliveries go on.
                _log.critical("what was left for a chat can't be delivered", error=brief(error), exc_info=error)
            finally:
                if chat_id is not None:
                    self._lanes.release(f"chat:{chat_id}", self._now(), finished=False)
                changed()

        chats, self._chats = self._chats, {}
        async with asyncio.TaskGroup() as group:
            for chat_id, parts in chats.items():
                group.create_task(serve(chat_id, parts))
