"""Requests and replies through a real router: to one mailbox, refused at once, and over a router's end."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from botctl.bus.event_types.subscriptions import Subscription
from botctl.bus.events import Event, decode_event, encode_event
from botctl.bus.routing.roster import Member, Roster
from botctl.bus.routing.router import Router
from support.bus_steps import logged

ROSTER = Roster({
    1: Member(name="ada"),
    2: Member(name="shop", answers=(Subscription(type="price.*"),)),
    3: Member(name="nosy", subscribe=(Subscription(type="*"),)),
})  # fmt: skip


@pytest.fixture
async def fleet(bus: Any) -> Any:
    for bot in ROSTER.bots:
        await bus.add_bot(bot)
    bus.clients = {bot: bus.bot_client(bot) for bot in ROSTER.bots}
    return bus


def router(bus: Any) -> Router:
    made = Router(bus.redis, bus.topology, lambda: ROSTER)
    made.running = bus.start(made)  # type: ignore[attr-defined]
    return made


async def publish(bus: Any, bot: int, event_id: str, **more: Any) -> None:
    event = Event(**{"id": event_id, "type": "price.quote", "occurred_at": time.time()} | more)
    await bus.clients[bot].xadd(bus.topology.out(bot), {"e": encode_event(event)})


async def ask(bus: Any, event_id: str, to: str = "shop", seconds: float = 30.0, **data: Any) -> None:
    await publish(bus, 1, event_id, to=to, deadline=time.time() + seconds, data=data)


async def mailbox(bus: Any, bot: int) -> list[Event]:
    return [decode_event(fields[b"e"]) for _, fields in await bus.redis.xrange(bus.topology.mailbox(bot))]


async def test_a_request_and_its_reply_go_to_one_mailbox_each(fleet: Any, eventually: Any) -> None:
    made = router(fleet)
    await ask(fleet, "r1", n=5)
    await eventually(lambda: made.stats.requests == 1)
    await publish(fleet, 2, "a1", to="bot:1", reply_to="r1", data={"price": 3})
    await eventually(lambda: made.stats.replies == 1)
    [request], [reply] = await mailbox(fleet, 2), await mailbox(fleet, 1)
    assert (request.data, request.source, request.source_name, request.to) == ({"n": 5}, "bot:1", "ada", "bot:2")
    assert (reply.data, reply.source, reply.source_name, reply.reply_to) == ({"price": 3}, "bot:2", "shop", "r1")
    assert await mailbox(fleet, 3) == []
    assert await logged(fleet) == ["r1", "a1"]
    logs = await fleet.redis.xrange(fleet.topology.namespace + ":events:bot")
    assert [decode_event(fields[b"e"]).data for _, fields in logs] == [{}, {}]


async def test_an_unknown_or_unwilling_target_is_an_answer_at_once(fleet: Any, eventually: Any) -> None:
    made = router(fleet)
    await ask(fleet, "r1", to="nobody")
    await ask(fleet, "r2", to="nosy")
    await ask(fleet, "r3", seconds=-1)
    await eventually(lambda: made.stats.refused_requests == 2 and made.stats.expired == 1)
    assert [(one.reply_to, one.error) for one in await mailbox(fleet, 1)] == [
        ("r1", "no such bot"),
        ("r2", "unwilling"),
    ]
    assert await mailbox(fleet, 3) == []
    assert await fleet.redis.xlen(fleet.topology.dead_letters) == 0


async def test_what_nobody_asked_for_gets_into_no_mailbox(fleet: Any, eventually: Any) -> None:
    from botctl.bus.routing import requests

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "LONGEST_TIMEOUT", -100.0)  # not a new router any more
        made = router(fleet)
        for number in range(20):
            await publish(fleet, 3, f"flood{number}", to="ada", reply_to=f"r{number}")
        await eventually(lambda: made.stats.expired == 20)
    assert await mailbox(fleet, 1) == []


async def test_a_killed_router_loses_neither_requests_nor_replies(fleet: Any, eventually: Any) -> None:
    """Cancelled at a random moment again and again; whatever came twice is the same event for its reader."""
    made = router(fleet)
    total = 60
    for number in range(total):
        await ask(fleet, f"r{number}")
        if number % 10 == 5:
            made.running.cancel()  # type: ignore[attr-defined]
            await asyncio.gather(made.running, return_exceptions=True)  # type: ignore[attr-defined]
            made = router(fleet)

    async def all_asked() -> bool:
        return len({one.id for one in await mailbox(fleet, 2)}) == total

    await eventually(all_asked)
    for number in range(total):
        await publish(fleet, 2, f"a{number}", to="bot:1", reply_to=f"r{number}")
        if number % 10 == 5:
            made.running.cancel()  # type: ignore[attr-defined]
            await asyncio.gather(made.running, return_exceptions=True)  # type: ignore[attr-defined]
            made = router(fleet)

    async def all_answered() -> bool:
        return {one.reply_to for one in await mailbox(fleet, 1)} == {f"r{number}" for number in range(total)}

    await eventually(all_answered)
    assert len(await mailbox(fleet, 2)) == total
    assert len(await mailbox(fleet, 1)) == total


async def test_a_request_relayed_twice_is_delivered_once(fleet: Any, eventually: Any) -> None:
    made = router(fleet)
    deadline = time.time() + 30
    for _ in range(2):
        await publish(fleet, 1, "r1", to="shop", deadline=deadline)
    await eventually(lambda: made.stats.duplicates == 1)
    assert len(await mailbox(fleet, 2)) == 1
