"""What the router makes of events that come twice, are no events, or don't fit; and of a router's end."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from redis.exceptions import ConnectionError

from botctl.bus.events import Log, encode_event
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.routing import rounds as rounds_module
from support.bus_steps import logged, start_relay, tick

BRICK = "18446744073709551615-18446744073709551615"


async def test_what_a_bot_must_not_publish_is_kept_as_a_dead_letter_and_can_be_replayed(
    bus: Any, eventually: Any
) -> None:
    await bus.add_bot(1)
    rejected: list[Any] = []
    router = bus.router(on_rejected=rejected.append)
    bus.start(router)
    client = bus.bot_client(1)
    await client.xadd(
        bus.topology.out(1), {"e": encode_event(tick("forged", "threat.detected", rule="x", severity="low"))}
    )
    await client.xadd(bus.topology.out(1), {"e": b"\xff nonsense"})
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("good"))})
    await eventually(lambda: router.stats.routed == 1)
    assert await logged(bus) == ["good"]
    newest, oldest = await DeadLetters(bus.redis, bus.topology).list()
    assert "no event" in newest.reason
    assert "may not publish threat.detected" in oldest.reason
    assert (oldest.stream, json.loads(oldest.body)["id"]) == (bus.topology.out(1), "forged")
    assert [one.bot_id for one in rejected] == [1, 1]
    await DeadLetters(bus.redis, bus.topology).retry(oldest.id)
    await eventually(lambda: router.stats.rejected == 3)
    assert len(await DeadLetters(bus.redis, bus.topology).list()) == 2


async def test_an_event_relayed_twice_is_routed_once_also_by_the_next_router(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    client = bus.bot_client(1)
    first = bus.router()
    running = bus.start(first)
    for _ in range(2):
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    await eventually(lambda: first.stats.duplicates == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    second = bus.router()
    bus.start(second)
    await eventually(lambda: second.stats.duplicates == 1)
    assert await logged(bus) == ["a"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
async def test_a_router_that_loses_redis_around_its_commit_routes_everything_once(
    bus: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch, done: bool
) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "*")
    real, failures = rounds_module.transact, 3

    async def unreliable(*args: Any, **options: Any) -> list[Any]:
        nonlocal failures
        if failures:
            failures -= 1
            if done:
                await real(*args, **options)
            raise ConnectionError("the reply was lost")
        return await real(*args, **options)

    monkeypatch.setattr(rounds_module, "transact", unreliable)
    client = bus.bot_client(1)
    for n in range(250):
        await client.xadd(bus.topology.out(1), {"e": encode_event(tick(str(n)))})
    router = bus.router()
    bus.start(router)

    async def emptied() -> bool:
        return failures == 0 and not await bus.redis.xlen(bus.topology.out(1))

    await eventually(emptied)
    assert await logged(bus) == [str(n) for n in range(250)]
    assert await bus.redis.xlen(bus.topology.mailbox(2)) == 250


async def test_what_a_dead_router_had_read_is_routed_by_the_next_one(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    for n in range(5):
        await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick(str(n)))})
    await bus.redis.xreadgroup("router", "router", {bus.topology.out(1): ">"}, count=3)
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.routed == 5)
    assert await logged(bus) == ["0", "1", "2", "3", "4"]


async def test_an_out_stream_made_unusable_is_begun_again(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    client = bus.bot_client(1)
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("last words"))}, id=BRICK)
    outbox = new_outbox()
    outbox.put(tick("after"))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: not relay.healthy)
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.routed == 2, 30)
    assert router.stats.replaced_streams == 1
    assert await logged(bus) == ["last words", "after"]
    await eventually(lambda: relay.healthy)


async def test_a_clock_that_goes_back_by_days_accuses_nobody(bus: Any, eventually: Any) -> None:
    """What was made while it was ahead has ids in the future, in the logs as in the out streams."""
    await bus.add_bot(1)
    client, ahead = bus.bot_client(1), int(time.time() * 1000) + 3 * 86_400_000
    accused: list[Any] = []
    await bus.redis.xadd(bus.topology.log(Log.USER), {"e": encode_event(tick("then"))}, id=f"{ahead}-0")
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("last"))}, id=f"{ahead + 3_600_000}-0")
    router = bus.router(on_rejected=accused.append)
    bus.start(router)
    await eventually(lambda: router.stats.routed == 1)
    await router.janitor.outs.check([1], lambda bot_id: None)
    await client.xadd(bus.topology.out(1), {"e": encode_event(tick("after"))})
    await eventually(lambda: router.stats.routed == 2)
    assert (router.janitor.outs.replaced, accused) == (0, [])
    assert not router.janitor.outs.suspicious(f"{ahead}-0".encode()), "nobody looks again and again"


async def test_a_bot_that_empties_its_own_stream_hurts_only_itself(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    router = bus.router()
    bus.start(router)
    bad, good = bus.bot_client(1), bus.bot_client(2)
    for n in range(50):
        await bad.xadd(bus.topology.out(1), {"e": encode_event(tick(f"bad {n}"))}, maxlen=1, approximate=False)
        await good.xadd(bus.topology.out(2), {"e": encode_event(tick(f"good {n}"))})
    await bad.xadd(bus.topology.out(1), {"e": b"x"}, id=BRICK)
    await eventually(lambda: asyncio.ensure_future(count_of(bus, "good")))
    assert router.stats.healthy


async def count_of(bus: Any, word: str) -> bool:
    return len([one for one in await logged(bus) if one.startswith(word)]) == 50


async def test_a_large_event_for_many_mailboxes_gets_through(bus: Any, eventually: Any) -> None:
    for bot in range(1, 151):
        bus.passwords[bot] = f"pw-{bot}"
        bus.subscribers[bot] = ("custom.*",)
    await bus.apply()
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("large", text="x" * 60_000))})
    router = bus.router()
    bus.start(router)
    await eventually(lambda: router.stats.delivered == 149)
    assert router.stats.healthy
    assert await bus.redis.xlen(bus.topology.mailbox(150)) == 1


async def test_a_write_that_fails_when_executed_becomes_a_dead_letter(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2, "custom.*")
    await bus.redis.delete(bus.topology.mailbox(2))
    await bus.redis.set(bus.topology.mailbox(2), "no stream")
    await bus.bot_client(1).xadd(bus.topology.out(1), {"e": encode_event(tick("a"))})
    router = bus.router()
    bus.start(router)
    await eventually(lambda: asyncio.ensure_future(DeadLetters(bus.redis, bus.topology).list()))
    assert await logged(bus) == ["a"]
    [letter] = await DeadLetters(bus.redis, bus.topology).list()
    assert "WRONGTYPE" in letter.reason
