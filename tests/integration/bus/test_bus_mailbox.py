"""A bot's mailbox: nothing read is lost before it is acknowledged."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from botctl.bus.events import Event, encode_event
from botctl.bus.reading.mailbox import Mailbox


async def deliver(bus: Any, *ids: str) -> list[str]:
    return [
        (
            await bus.redis.xadd(
                bus.topology.mailbox(1), {"e": encode_event(Event(id=one, type="custom.tick", occurred_at=1))}
            )
        ).decode()
        for one in ids
    ]


def new_mailbox(bus: Any) -> Mailbox:
    return Mailbox(bus.bot_client(1, blocking=True), bus.topology, 1)


async def test_entries_come_in_order_and_once(bus: Any) -> None:
    await bus.add_bot(1)
    delivered = await deliver(bus, "a", "b", "c")
    mailbox = new_mailbox(bus)
    first = await mailbox.read(2, block_ms=0)
    second = await mailbox.read(2, block_ms=0)
    assert [entry.event.id for entry in first + second if entry.event] == ["a", "b", "c"]
    assert [entry.id for entry in first + second] == delivered
    assert await mailbox.read(block_ms=0) == []


async def test_what_was_not_acknowledged_comes_again_to_the_next_incarnation(bus: Any) -> None:
    await bus.add_bot(1)
    ids = await deliver(bus, "a", "b", "c")
    before = new_mailbox(bus)
    await before.read()
    assert await before.ack([ids[1]])
    await deliver(bus, "d")
    after = new_mailbox(bus)
    again = await after.read(1) + await after.read(100) + await after.read(100)
    assert [entry.event.id for entry in again if entry.event] == ["a", "c", "d"]
    assert await after.ack([entry.id for entry in again])
    assert (await bus.redis.xpending(bus.topology.mailbox(1), "bot"))["pending"] == 0


async def test_a_cancelled_read_loses_nothing(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    mailbox = new_mailbox(bus)
    found: set[str] = set()
    for _ in range(20):
        reading = asyncio.create_task(mailbox.read(block_ms=2000))
        await asyncio.sleep(0)
        await deliver(bus, "x")
        reading.cancel()
        [result] = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(result, list):  # It was done already.
            found.update(entry.id for entry in result)

    async def all_found() -> bool:
        entries = await mailbox.read(block_ms=20)
        found.update(entry.id for entry in entries)
        await mailbox.ack([entry.id for entry in entries])
        return len(found) == 20

    await eventually(all_found)
    assert (await bus.redis.xpending(bus.topology.mailbox(1), "bot"))["pending"] == 0


async def test_what_a_lost_connection_has_swallowed_is_read_all_the_same(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    mailbox = new_mailbox(bus)
    assert await mailbox.read(block_ms=0) == []
    stream, user = bus.topology.mailbox(1), bus.topology.user(1)
    reading = asyncio.create_task(mailbox.read())

    async def connected() -> bool:
        clients = await bus.redis.client_list()
        return any(client["user"] == user and client["cmd"] == "xreadgroup" for client in clients)

    await eventually(connected)
    async with bus.redis.pipeline(transaction=True) as pipe:
        pipe.execute_command("CLIENT", "KILL", "USER", user)
        pipe.xadd(stream, {"e": encode_event(Event(id="a", type="custom.tick", occurred_at=1))})
        pipe.xreadgroup("bot", "bot", {stream: ">"})
        await pipe.execute()
    [entry] = await asyncio.wait_for(reading, 10)
    assert entry.event is not None
    assert entry.event.id == "a"


async def test_an_unreadable_entry_is_told_as_such_and_can_be_acknowledged(bus: Any) -> None:
    await bus.add_bot(1)
    await bus.redis.xadd(bus.topology.mailbox(1), {"e": b"nonsense"})
    await bus.redis.xadd(bus.topology.mailbox(1), {"x": b"y"})
    await deliver(bus, "a")
    mailbox = new_mailbox(bus)
    bad, worse, good = await mailbox.read()
    assert (bad.event, bad.body) == (None, b"nonsense")
    assert bad.error is not None
    assert "no event" in bad.error
    assert worse.error == "the entry has no event"
    assert good.event is not None
    assert await mailbox.ack([bad.id, worse.id, good.id])
    assert await mailbox.read(block_ms=0) == []


async def test_a_waiting_read_returns_when_something_comes_and_otherwise_empty(bus: Any) -> None:
    await bus.add_bot(1)
    mailbox = new_mailbox(bus)
    start = time.monotonic()
    assert await mailbox.read(block_ms=150) == []
    assert 0.1 < time.monotonic() - start < 2.0
    reading = asyncio.create_task(mailbox.read())
    await asyncio.sleep(0)
    await deliver(bus, "a")
    assert len(await asyncio.wait_for(reading, 5)) == 1


async def test_a_mailbox_waits_for_a_server_that_is_away_and_for_its_user(
    make_server: Any, make_bus: Any, eventually: Any
) -> None:
    server = make_server()
    bus = make_bus(server.url)
    await bus.add_bot(1)
    mailbox = new_mailbox(bus)
    ids = await deliver(bus, "a")
    assert len(await mailbox.read()) == 1
    await bus.redis.execute_command("WAITAOF", 1, 0, 5000)
    server.kill()
    reading = asyncio.create_task(mailbox.read())
    await eventually(lambda: not mailbox.healthy)
    assert mailbox.reason == "redis is not reachable"
    assert not await mailbox.ack(ids)
    server.start()  # Its users are gone: they were never saved.
    await eventually(lambda: mailbox.reason == "redis refuses the login")
    await bus.apply()
    [entry] = await asyncio.wait_for(reading, 15)
    assert entry.event is not None
    assert entry.event.id == "a"
    assert mailbox.healthy
    assert await mailbox.ack([entry.id])
