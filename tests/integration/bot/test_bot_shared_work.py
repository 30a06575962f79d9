"""Bots that share a group's work, do things once, and declare their events."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from bot_waiting import until

from botctl.bus.caretaking.admin import BusAdmin
from botctl.bus.events import Event, encode_event
from botctl.bus.topology import FIELD, Topology

TOPOLOGY = Topology("test")


async def join(redis: Any, *bots: Any) -> None:
    admin = BusAdmin(redis, TOPOLOGY)
    await admin.ensure_groups(["desk"])
    hashes = {bot.bot_id: [hashlib.sha256(bot.credentials.redis.encode()).hexdigest()] for bot in bots}
    await admin.ensure_bots(hashes, {bot.bot_id: ["desk"] for bot in bots})


async def tickets(redis: Any, first: int, last: int) -> None:
    for number in range(first, last):
        event = Event(id=f"t{number}", type="ticket.opened", occurred_at=1.0, data={"n": number})
        await redis.xadd(TOPOLOGY.group("desk"), {FIELD: encode_event(event)})


async def test_members_of_a_group_share_its_work_and_a_killed_one_loses_nothing(
    new_bot: Any, database: Any, redis: Any
) -> None:
    one, two = await new_bot(database), await new_bot(database)
    await join(redis, one, two)
    for bot in (one, two):
        bot.start(handlers="handlers_for_bus:member", groups=["desk"])
        await bot.ready()
    await tickets(redis, 0, 60)
    one.kill()
    one.start()
    await one.ready()
    await tickets(redis, 60, 100)

    async def all_done() -> bool:
        done = [
            int(await bot.value("SELECT count(*) FROM inbox WHERE bot_id = {bot} AND state = 'done'"))
            for bot in (one, two)
        ]
        return sum(done) >= 100

    await until(all_done)
    heard = [text for bot in (one, two) for text in await bot.heard()]
    assert set(heard) == {f"ticket {number}" for number in range(100)}
    causes = [row[0] for bot in (one, two) for row in await bot.rows("SELECT cause FROM inbox WHERE bot_id = {bot}")]
    assert sorted(causes) == sorted(f"event:t{number}" for number in range(100)), "each is one member's"
    assert (await redis.xpending(TOPOLOGY.group("desk"), "bot"))["pending"] == 0
    assert len(await one.heard()) > 0
    assert len(await two.heard()) > 0


async def test_a_key_is_taken_once_and_a_handling_that_fails_takes_none(bot: Any) -> None:
    bot.start(handlers="handlers_for_bus:once")
    await bot.ready()
    await bot.say("fail a")
    assert await bot.answers(1) == ["a: True"]
    await bot.settled(1)
    assert await bot.value("SELECT attempts FROM inbox WHERE bot_id = {bot}") == 2
    await bot.say("x a")
    assert await bot.answers(2) == ["a: True", "a: False"]
    await bot.stop()
    bot.start()
    await bot.ready()
    await bot.say("x a")
    assert (await bot.answers(3))[2] == "a: False"


async def test_a_replay_is_told_the_same_and_who_comes_meanwhile_waits(bot: Any) -> None:
    bot.start(handlers="handlers_for_bus:once")
    await bot.ready()
    await bot.say("hang k")
    assert await bot.answers(1) == ["k: True"]

    async def sent() -> bool:
        return bool(await bot.value("SELECT state = 'sent' FROM sends WHERE bot_id = {bot}"))

    await until(sent)
    await bot.say("x k", chat=101)
    bot.kill()
    bot.start(handlers="handlers_for_bus:once_that_goes_on", previous_failure="signal")
    await bot.settled(2)
    assert (await bot.heard(), await bot.heard(101)) == (["k: True"], ["k: False"])


async def test_of_two_handlings_at_once_one_is_the_first(bot: Any) -> None:
    bot.start(handlers="handlers_for_bus:once")
    await bot.ready()
    await asyncio.gather(*(bot.say("slow k", chat=chat) for chat in range(100, 104)))
    await bot.settled(4)
    heard = [text for chat in range(100, 104) for text in await bot.heard(chat)]
    assert sorted(heard) == ["k: False"] * 3 + ["k: True"]


async def test_declared_events_are_checked_and_brought_up_to_date(bot: Any, redis: Any, published: Any) -> None:
    bot.start(handlers="handlers_for_bus:declaring", subscribe=["order.placed"], limits={"attempts": 1})
    await bot.ready()
    for name, version, data in (
        ("old", 1, {"what": "tea"}),
        ("new", 2, {"item": "rum", "pieces": 3}),
        ("newer", 3, {"items": ["gin"]}),
        ("odd", 2, {"item": "ale", "pieces": "many"}),
    ):
        event = Event(id=name, type="order.placed", version=version, occurred_at=1.0, data=data)
        await redis.xadd(TOPOLOGY.mailbox(bot.bot_id), {FIELD: encode_event(event)})
    await bot.settled(4)
    assert await bot.heard() == ["1 tea (2)", "3 rum (2)"]
    rows = await bot.rows("SELECT cause, last_error FROM inbox WHERE bot_id = {bot} AND state = 'dead' ORDER BY cause")
    errors = {row["cause"]: row["last_error"] for row in rows}
    assert "has version 3; 2 is the newest known here" in errors["event:newer"]
    assert "not as declared" in errors["event:odd"]
    await bot.say("tea")
    await bot.say("wrong")
    await bot.settled(6)
    found = [event for event in await published(bot) if event.type == "order.placed"]
    assert [(event.version, event.data) for event in found] == [(2, {"item": "tea", "pieces": 2})]
