"""A server that is killed, emptied, out of memory, filled by one bot: nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import OutOfMemoryError

from botctl.bus.caretaking.room import Room
from botctl.bus.events import encode_event
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.reading.mailbox import Mailbox
from support.bus_steps import logged, start_relay, tick


async def test_nothing_is_lost_when_redis_is_killed_and_comes_back(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    server = make_server("--appendfsync", "always")
    bus = make_bus(server.url)
    await bus.add_bot(1)
    await bus.add_bot(2, "*")
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox, batch=20)
    router = bus.router()
    bus.start(router)
    expected = []
    for turn in range(3):
        for n in range(200):
            expected.append(f"{turn}-{n}")
            outbox.put(tick(expected[-1]))
        relay.wake()
        await eventually(lambda: router.stats.routed > 0)
        server.kill()
        outbox.put(tick(f"{turn}-down"))
        expected.append(f"{turn}-down")
        await eventually(lambda: not relay.healthy and not router.stats.healthy)
        server.start()
        await bus.apply()
        await eventually(lambda: relay.healthy and not outbox.rows, 30)
    await eventually(lambda: asyncio.ensure_future(arrived(bus, expected)), 30)
    assert await logged(bus) == expected


async def arrived(bus: Any, expected: list[str]) -> bool:
    return set(await logged(bus)) == set(expected)


async def test_an_emptied_server_is_noticed_and_made_again(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    bus = make_bus(make_server().url)
    await bus.add_bot(1, "bot.*")
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox)
    router = bus.router(sweep_every=0.05)
    bus.start(router)
    outbox.put(tick("a"))
    relay.wake()
    await eventually(lambda: router.stats.routed == 1)
    await bus.know()
    before = await bus.admin.run_id()
    await bus.redis.flushall()
    assert await bus.admin.run_id() != before
    await bus.apply()
    outbox.put(tick("b"))
    relay.wake()
    await eventually(lambda: router.stats.routed == 2)
    mailbox = Mailbox(bus.bot_client(1, blocking=True), bus.topology, 1)
    assert await mailbox.read(block_ms=0) == []


async def test_nothing_is_acknowledged_while_redis_is_out_of_memory(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    bus = make_bus(make_server().url)
    await bus.add_bot(1)
    await bus.add_bot(2, "*")
    for n in range(50):
        await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick(str(n)))})
    await bus.redis.config_set("maxmemory", "1mb")
    router = bus.router()
    bus.start(router)
    outbox = new_outbox()
    outbox.put(tick("late"))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: not router.stats.healthy and not relay.healthy)
    assert "memory" in router.stats.reason
    assert await logged(bus) == []
    assert await bus.redis.xlen(bus.topology.out(1)) == 50
    await bus.redis.config_set("maxmemory", "256mb")
    await eventually(lambda: router.stats.routed == 51, 30)
    assert await logged(bus) == [*map(str, range(50)), "late"]
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 51


async def test_a_bot_that_fills_the_server_stops_the_others_for_seconds_only(
    make_server: Any, make_bus: Any, new_outbox: Any, eventually: Any
) -> None:
    bus = make_bus(make_server("--maxmemory", "48mb").url)
    await bus.add_bot(1)
    await bus.add_bot(2)
    await bus.add_bot(3, "custom.*")
    flooder = bus.bot_client(1)
    body = encode_event(tick("flood", text="x" * 60_000))
    full = asyncio.Event()

    async def flood() -> None:
        while True:
            try:
                await flooder.xadd(bus.topology.out(1), {"e": body})
            except OutOfMemoryError:
                full.set()

    flooding = asyncio.create_task(flood())
    await full.wait()
    router = bus.router()
    bus.start(router)
    outbox = new_outbox()
    outbox.put(tick("of-another"))
    await start_relay(bus, 2, outbox)
    await eventually(lambda: not outbox.rows and router.stats.healthy and router.stats.routed >= 2, 10)
    mailbox = Mailbox(bus.bot_client(3, blocking=True), bus.topology, 3)
    ids: set[str] = set()
    async with asyncio.timeout(10):
        while "of-another" not in ids:
            ids |= {entry.event.id for entry in await mailbox.read() if entry.event is not None}
    assert router.stats.dropped > 0
    reasons = [letter.reason for letter in await DeadLetters(bus.redis, bus.topology).list()]
    assert any(reason.startswith("flood: ") for reason in reasons)
    flooding.cancel()
    await asyncio.gather(flooding, return_exceptions=True)
    room = Room(bus.redis, bus.topology)

    async def relieved() -> bool:
        return not await room.scarce()

    await eventually(relieved)
