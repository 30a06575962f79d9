"""What an earlier process left is delivered chat by chat; one chat's trouble is not the others'."""

from __future__ import annotations

import asyncio
from typing import Any

from botctl.bot.receiving.lanes import Lanes
from botctl.bot.sending.recovery import Recovery
from botctl.bot.vitals.health import Health
from botctl.storage.sends import SendRow


class FakeDatabase:
    async def transaction(self, work: Any) -> Any:
        return await work(None)


class FakeSends:
    async def abandon(self, connection: Any, reason: str) -> int:
        return 0

    async def unfinished(self, connection: Any) -> list[SendRow]:
        return [
            SendRow(f"update:{chat}", 0, "deferred", "sendMessage", chat, {"text": "x"}, "planned") for chat in (1, 2)
        ]


class FakeConversations:
    async def outgoing(self, connection: Any, cause: str, n: int) -> None:
        return None


class FakeSender:
    def __init__(self) -> None:
        self.delivered: list[int] = []

    async def leave(self, *_: Any) -> int:
        return 0

    async def deliver(self, parts: Any) -> None:
        if parts[0].row.chat_id == 1:
            raise RuntimeError("unexpected")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.delivered.append(parts[0].row.chat_id)


async def test_an_unexpected_error_in_one_chat_leaves_the_others_alone() -> None:
    sender, lanes = FakeSender(), Lanes()
    fakes: Any = (FakeDatabase(), FakeSends(), FakeConversations(), sender)
    recovery = Recovery(*fakes, lanes, Health(), deliver=sender.deliver, repeats=lambda method: True, now=lambda: 1.0)
    await recovery.find()
    assert lanes.busy == 2
    await recovery.deliver(lambda: None)
    assert sender.delivered == [2]
    assert lanes.busy == 0
