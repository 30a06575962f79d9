"""Deliveries that break: in order all the same, tried again where they stand, and given up at last."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from typing import Any

import pytest

from botctl.bot.handling.attempt import Handled
from botctl.bot.handling.dispatcher import Dispatcher
from botctl.bot.live_limits import LiveLimits
from botctl.bot.receiving.lanes import Lanes
from botctl.bot.sending.delivery import Delivery
from botctl.bot.sending.sender import Outgoing
from botctl.bot.tasks import end
from botctl.storage.inbox import InboxRow
from botctl.storage.sends import SendRow


class Chat:
    """The journal, the database and the sender of one chat. `breaks`: how often a part breaks, before or after."""

    def __init__(self, *, before: dict[int, int] | None = None, after: dict[int, int] | None = None) -> None:
        self.rows: dict[tuple[str, int], SendRow] = {}
        self.said: list[tuple[str, int]] = []
        self.before, self.after = Counter(before), Counter(after)
        self.uncertain = 0

    def plan(self, cause: str, parts: int) -> list[Outgoing]:
        rows = [SendRow(cause, n, "deferred", "sendMessage", 1, {}, "planned") for n in range(parts)]
        self.rows |= {(cause, row.n): row for row in rows}
        return [Outgoing(row, None) for row in rows]

    def become(self, cause: str, n: int, state: str) -> None:
        self.rows[cause, n] = dataclasses.replace(self.rows[cause, n], state=state)

    async def transaction(self, work: Any) -> Any:
        return await work(None)

    async def of_cause(self, connection: Any, cause: str) -> list[SendRow]:
        return [row for row in self.rows.values() if row.cause == cause]

    async def hidden(self, cause: str, n: int, reason: str, *, again: bool) -> None:
        self.uncertain += 1
        self.become(cause, n, "planned" if again else "skipped")

    async def failed(self, cause: str, n: int, reason: str) -> None:
        self.become(cause, n, "failed")

    async def deliver(self, parts: list[Outgoing]) -> None:
        await asyncio.sleep(0)
        for part in parts:
            cause, n = part.row.cause, part.row.n
            assert part.row.state == self.rows[cause, n].state == "planned"
            if cause == "update:1" and self.before[n]:
                self.before[n] -= 1
                raise ValueError("before the call")
            self.become(cause, n, "sending")
            self.said.append((cause, n))
            if cause == "update:1" and self.after[n]:
                self.after[n] -= 1
                raise ValueError("the answer can't be stored")
            self.become(cause, n, "sent")

    def states(self, cause: str) -> list[str]:
        return [row.state for row in self.rows.values() if row.cause == cause]


def delivery_of(chat: Any, *, repeats: bool = True) -> Delivery:
    return Delivery(chat, chat, chat, chat, repeats=lambda method: repeats, pauses=(0.0, 0.0))


async def test_a_part_that_breaks_is_tried_again_before_those_after_it() -> None:
    chat = Chat(before={1: 2})
    await delivery_of(chat).deliver(chat.plan("update:1", 3))
    assert [n for _, n in chat.said] == [0, 1, 2]
    assert chat.states("update:1") == ["sent"] * 3
    assert chat.uncertain == 0


async def test_a_part_that_goes_on_breaking_is_given_up_and_those_after_it_are_delivered() -> None:
    chat = Chat(before={1: 99})
    await delivery_of(chat).deliver(chat.plan("update:1", 3))
    assert chat.states("update:1") == ["sent", "failed", "sent"]


@pytest.mark.parametrize(("repeats", "said", "state"), [(True, [0, 0, 1], "sent"), (False, [0, 1], "skipped")])
async def test_what_may_have_arrived_is_counted_and_on_uncertain_decides(
    repeats: bool, said: list[int], state: str
) -> None:
    chat = Chat(after={0: 1})
    await delivery_of(chat, repeats=repeats).deliver(chat.plan("update:1", 2))
    assert [n for _, n in chat.said] == said
    assert chat.states("update:1") == [state, "sent"]
    assert chat.uncertain == 1


async def test_nothing_of_the_chat_overtakes_an_answer_whose_delivery_breaks() -> None:
    chat, lanes = Chat(before={0: 1, 1: 1}), Lanes()
    delivery = delivery_of(chat)
    over = asyncio.Event()

    async def handle(row: InboxRow) -> Handled:
        return Handled(chat.plan(row.cause, 2))

    async def deliver(parts: list[Outgoing]) -> None:
        await delivery.deliver(parts)
        if parts[0].row.cause == "update:2":
            over.set()

    class FakeIntake:
        wants_refill = False

    intake: Any = FakeIntake()
    dispatcher = Dispatcher(lanes, intake, handle, deliver, limits=LiveLimits(2, 5))
    for number in (1, 2):
        lanes.add(InboxRow(number, f"update:{number}", "message", "chat:1", "{}", "t"), 0.0)
    run = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(5):
        await over.wait()
    await end([run])
    assert chat.said == [("update:1", 0), ("update:1", 1), ("update:2", 0), ("update:2", 1)]
