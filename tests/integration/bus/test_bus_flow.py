"""From outbox to log and mailbox, on a server that works."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from botctl.bus.events import Log, encode_event
from botctl.bus.reading.mailbox import Mailbox
from botctl.bus.reading.reader import read_log
from support.bus_steps import logged, start_relay, tick


async def test_an_event_of_one_bot_reaches_the_log_and_another_bots_mailbox(bus: Any, new_outbox: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "message.*")
    await bus.add_bot(3, "custom.*")
    bus.start(bus.router())
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox)
    mailbox = Mailbox(bus.bot_client(2, blocking=True), bus.topology, 2)
    reading = asyncio.create_task(mailbox.read())
    outbox.put(tick("m1", "message.received", chat_id=5, user_id=6))
    relay.wake()
    [entry] = await asyncio.wait_for(reading, 10)
    event = entry.event
    assert event is not None
    assert (event.id, event.source, event.correlation_id) == ("m1", "bot:1", "t1")
    assert event.data == {"chat_id": 5, "user_id": 6}
    assert await logged(bus, Log.USER) == ["m1"]
    assert await bus.redis.xlen(bus.topology.mailbox(3)) == 0
    assert await bus.redis.xlen(bus.topology.out(1)) == 0


async def test_many_events_of_many_bots_arrive_once_and_in_order(bus: Any, new_outbox: Any, eventually: Any) -> None:
    bots, each = range(1, 6), 700
    await bus.add_bot(9, "*")
    for bot in bots:
        await bus.add_bot(bot)
        outbox = new_outbox()
        outbox.put(*(tick(f"{bot}-{n}", n=n) for n in range(each)))
        await start_relay(bus, bot, outbox)
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.routed == 5 * each)
    by_source: dict[str, list[int]] = {}
    async for _, event in read_log(bus.redis, bus.topology, Log.BOT):
        by_source.setdefault(event.source, []).append(event.data["n"])
    assert by_source == {f"bot:{bot}": list(range(each)) for bot in bots}
    assert await bus.redis.xlen(bus.topology.mailbox(9)) == 5 * each
    assert router.stats.duplicates == router.stats.rejected == 0


async def test_the_fleets_own_events_take_the_same_way(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.apply()
    bus.start(bus.router())
    outbox = new_outbox()
    await start_relay(bus, 0, outbox)
    outbox.put(tick("f1", "fleet.started", version="1", bots=3))
    await eventually(lambda: asyncio.ensure_future(logged(bus, Log.SYSTEM)))
    [(_, event)] = [item async for item in read_log(bus.redis, bus.topology, Log.SYSTEM)]
    assert event.source == "fleet"


async def test_a_bot_reacts_to_itself_only_when_it_asks_for_that_type(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1, "*")
    await bus.add_bot(2, "*", "custom.tick")
    router = bus.router()
    bus.start(router)
    for bot in (1, 2):
        await bus.bot_client(bot).xadd(bus.topology.out(bot), {"e": encode_event(tick(f"by {bot}"))})
    await eventually(lambda: router.stats.routed == 2)
    assert await bus.redis.xlen(bus.topology.mailbox(1)) == 1
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 2


async def test_the_doorbell_makes_it_quick_and_the_sweep_works_without(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    router = bus.router(sweep_every=0.05)
    bus.start(router)
    await eventually(lambda: router.stats.doorbell)
    client = bus.bot_client(1)
    took = []
    for n in range(20):
        start = time.perf_counter()
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick(f"{n}"))})
        while router.stats.routed <= n:  # noqa: ASYNC110
            await asyncio.sleep(0)
        took.append(time.perf_counter() - start)
    assert sorted(took)[10] < 0.1
    flags = (await bus.redis.config_get("notify-keyspace-events")).popitem()[1]
    await bus.redis.config_set("notify-keyspace-events", "")
    try:
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick("last"))})
        await eventually(lambda: router.stats.routed == 21)
    finally:
        await bus.redis.config_set("notify-keyspace-events", flags)


async def test_without_the_right_to_configure_the_sweep_does_it_all(
    bus: Any, make_bus: Any, eventually: Any, sha256: Any
) -> None:
    name = f"{bus.topology.namespace}-limited"
    await bus.redis.execute_command("ACL", "SETUSER", name, "on", f"#{sha256('pw')}", "~*", "&*", "+@all", "-config")
    limited = make_bus(f"redis://{name}:pw@{bus.plain_url.removeprefix('redis://')}")
    try:
        await limited.add_bot(1)
        router = limited.router(sweep_every=0.05)
        limited.start(router)
        await limited.bot_client(1).xadd(limited.topology.out(1), {"e": encode_event(tick("a"))})
        await eventually(lambda: router.stats.routed == 1)
        assert not router.stats.doorbell
    finally:
        await limited.aclose()
        await bus.redis.acl_deluser(name)


async def test_a_bot_that_comes_later_is_found(bus: Any, eventually: Any) -> None:
    router = bus.router()
    await bus.apply()
    bus.start(router)
    await eventually(lambda: router.stats.doorbell)
    await bus.add_bot(1)
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    await eventually(lambda: router.stats.routed == 1)
