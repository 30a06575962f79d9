"""What row level security, own roles, audit and sealed messages cost: the statements of the product, in turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from isolation_stage import BOT, OPENED, OWN, TEXT, Stage, Way, message
from rounds import Work
from sqlalchemy.ext.asyncio import AsyncConnection

from botctl.bot.database import Database
from botctl.bot.vitals.health import Health
from botctl.storage import registry
from botctl.storage.completions import Completions, StoredCompletion
from botctl.storage.conversations import Conversations, StoredMessage
from botctl.storage.inbox import Inbox, NewRow
from botctl.storage.outbox import Outbox, StoredEvent
from botctl.storage.registry import RegisteredBot
from botctl.storage.sealing import Sealing
from botctl.storage.sends import SendRow, Sends

LAST = 20
_CHAT = {"id": 7, "type": "private", "first_name": "Ada"}
_UPDATE = {
    "message_id": 1, "date": 0, "chat": _CHAT, "text": TEXT,
    "from": {"id": 7, "is_bot": False, "first_name": "Ada", "language_code": "en"},
}  # fmt: skip
_numbers = itertools.count(1)


def message_ways(stage: Stage, connections: Mapping[str, AsyncConnection]) -> dict[str, Work]:
    """A message inserted and the last ones read, on a connection that is kept; the commit is a step of its own."""

    def way_of(name: str, way: Way) -> Work:
        connection = connections[name]

        def reader() -> Conversations:
            return Conversations(BOT, Sealing(stage.cipher, seals=True)) if name == OPENED else way.store

        async def work(number: int) -> dict[str, float]:
            conversation = way.chosen[number % OWN]
            begun = time.perf_counter()
            await way.store.add(connection, [message(conversation, f"{name}:{next(_numbers)}")])
            inserted = time.perf_counter()
            await connection.commit()
            committed = time.perf_counter()
            store = reader()
            asked = time.perf_counter()
            turns = await store.history(connection, conversation, "", LAST)
            read = time.perf_counter()
            await connection.commit()
            assert [turn.text for turn in turns] == [TEXT] * LAST
            return {"insert": inserted - begun, "commit": committed - begun, "read": read - asked}

        return work

    return {name: way_of(name, way) for name, way in stage.ways.items()}


async def audit_ways(stage: Stage, connections: Mapping[str, AsyncConnection]) -> dict[str, Work]:
    """A bot's configuration changed in the registry, as `control` does it."""

    def way_of(connection: AsyncConnection) -> Work:
        async def work(number: int) -> dict[str, float]:
            config = {"model": "gpt-5-mini", "instructions": TEXT, "turn": number}
            begun = time.perf_counter()
            await registry.save_bots(connection, [RegisteredBot(BOT, "support", True, "0" * 16, config)])
            changed = time.perf_counter()
            await connection.commit()
            return {"update": changed - begun, "commit": time.perf_counter() - begun}

        return work

    return {name: way_of(connection) for name, connection in connections.items()}


class Path:
    """All that is stored and read for one message that the assistant answers: six commits, as in `bot/`."""

    def __init__(self, engine: Any, sealing: Sealing) -> None:
        self._database = Database(engine, Health(), clock=time.monotonic)
        self._inbox, self._sends, self._outbox = Inbox(BOT, sealing), Sends(BOT, sealing), Outbox(BOT, sealing)
        self._conversations, self._completions = Conversations(BOT, sealing), Completions(BOT, sealing)
        self._conversation = 0

    async def open(self, chat: int) -> None:
        """First of all: end what was there, and begin a conversation."""
        await self._database.first()

        async def work(connection: AsyncConnection) -> None:
            self._conversation, _ = await self._conversations.open(connection, chat, 0)

        await self._database.transaction(work)

    async def answer(self, number: int) -> dict[str, float]:
        """One message, from its arrival to what is kept when Telegram has the answer."""
        n = next(_numbers)
        cause = f"update:{n}"
        update = msgspec.json.encode({"update_id": n, "message": _UPDATE}).decode()
        answer = {"chat_id": 7, "text": TEXT}
        row = SendRow(cause, 0, "deferred", "sendMessage", 7, answer, "sending")
        begun = time.perf_counter()

        async def arrived(connection: AsyncConnection) -> dict[str, int]:
            return await self._inbox.add(connection, [NewRow(cause, n, "message", "chat:7", update, "")])

        inbox_id = (await self._database.statement(arrived))[cause]

        async def began(connection: AsyncConnection) -> None:
            await self._inbox.begin_attempt(connection, inbox_id, 1)
            await self._conversations.add(connection, [self._message("in", "user", cause)])

        await self._database.transaction(began)

        async def remembered(connection: AsyncConnection) -> None:
            await self._completions.find(connection, cause, 0)
            await self._conversations.history(connection, self._conversation, cause, LAST)
            await self._inbox.step_back(connection, inbox_id, 0)

        await self._database.transaction(remembered)

        async def completed(connection: AsyncConnection) -> None:
            await self._completions.record(connection, cause, 0, StoredCompletion(TEXT, "gpt-5-mini", 900, 60, 800))
            await self._inbox.begin_attempt(connection, inbox_id, 1)

        await self._database.transaction(completed)

        async def finished(connection: AsyncConnection) -> None:
            await self._conversations.add(connection, [self._message("out", "assistant", cause)])
            await self._sends.plan(connection, [row])
            await self._outbox.add(connection, [self._event(cause, "message.received")])
            await self._inbox.done(connection, inbox_id)

        await self._database.transaction(finished)

        async def sent(connection: AsyncConnection) -> None:
            await self._sends.sent(connection, cause, 0, _UPDATE, begin_next=False)
            await self._conversations.identify(connection, cause, 0, 1)
            await self._outbox.add(connection, [self._event(cause, "message.sent")])

        await self._database.transaction(sent)
        return {"path": time.perf_counter() - begun}

    async def close(self) -> None:
        """End its connections."""
        await self._database.close()

    def _message(self, direction: str, role: str, cause: str) -> StoredMessage:
        return StoredMessage(self._conversation, 7, 0, direction, role, TEXT, cause)

    def _event(self, cause: str, type_: str) -> StoredEvent:
        data = {"chat_id": 7, "thread_id": 0, "conversation_id": self._conversation, "length": len(TEXT)}
        at = datetime.now(UTC).timestamp()
        return StoredEvent(f"{cause}|{type_}", type_, 1, at, "", cause, data)
