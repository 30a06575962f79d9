"""The relay between an outbox and a server when one of them is not as it should be."""

from __future__ import annotations

import asyncio
from typing import Any

from botctl.bus.client import connect
from botctl.bus.events import encode_event
from botctl.bus.relay import Relay
from botctl.bus.routing.allowance import Allowance
from botctl.bus.routing.portions import FIRST
from botctl.bus.topology import Topology
from botctl.bus.wire import execute
from support.bus_steps import start_relay, tick


async def test_one_bad_row_does_not_block_the_outbox(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    refused: list[Any] = []
    outbox.put(tick("a"), tick("big", text="x" * 70_000), tick("b"))
    relay = await start_relay(bus, 1, outbox, on_refused=lambda row, error: refused.append((row.event.id, error)))
    await eventually(lambda: not outbox.rows)
    assert (relay.relayed, relay.refused, relay.healthy) == (2, 1, True)
    assert [event_id for event_id, _ in refused] == ["big"]


async def test_a_relay_waits_for_the_database(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    outbox.broken = True
    relay = await start_relay(bus, 1, outbox, check_every=0.02)
    await eventually(lambda: relay.reason == "the outbox can't be read or marked")
    outbox.broken = False
    outbox.put(tick("a"))
    await eventually(lambda: relay.healthy and not outbox.rows)


async def test_a_relay_looks_by_itself_when_nobody_wakes_it(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    relay = await start_relay(bus, 1, outbox, check_every=0.05)
    await eventually(lambda: relay.healthy)
    outbox.put(tick("a"))
    await eventually(lambda: not outbox.rows)


async def test_a_bot_over_its_allowance_waits_and_others_do_not(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    await bus.add_bot(2)
    for n in range(300):
        await bus.redis.xadd(bus.topology.out(1), {"e": encode_event(tick(f"many-{n}"))})
    router = bus.router(allowance=Allowance(lambda: 0.0, burst=1_000, rate=1.0))
    bus.start(router)
    await eventually(lambda: router.stats.routed == FIRST)
    outbox = new_outbox()
    outbox.put(tick("of-another"))
    await start_relay(bus, 2, outbox)
    await eventually(lambda: router.stats.routed == FIRST + 1)
    assert await bus.redis.xlen(bus.topology.out(1)) == 300 - FIRST


async def test_a_relay_without_a_user_waits_until_there_is_one(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.apply()
    bus.passwords[1] = "soon"
    outbox = new_outbox()
    outbox.put(tick("a"))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: relay.reason == "redis refuses the login")
    await bus.apply()
    await eventually(lambda: relay.healthy and not outbox.rows)


async def test_a_server_that_never_answers_is_not_reachable(new_outbox: Any, eventually: Any) -> None:
    client = connect("redis://127.0.0.1:1/0")
    outbox = new_outbox()
    outbox.put(tick("a"))
    relay = Relay(client, Topology("x"), 1, outbox)
    running = asyncio.create_task(relay.run())
    await eventually(lambda: relay.reason == "redis is not reachable")
    assert not await relay.drain(0.1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await client.aclose()
    assert outbox.rows


async def test_the_relay_knows_that_more_waits_than_goes_at_once(bus: Any, new_outbox: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    outbox = new_outbox()
    outbox.put(*(tick(str(n)) for n in range(45)))
    relay, seen = None, []
    mark = outbox.mark_relayed

    async def marked(seqs: list[int]) -> None:
        await mark(seqs)
        seen.append(relay is not None and relay.behind)

    outbox.mark_relayed = marked
    relay = await start_relay(bus, 1, outbox, batch=20)
    await eventually(lambda: len(seen) == 6 and not relay.behind)  # 1, 2, 4, 8, 16 and 14
    assert seen == [False, True, True, True, True, True]


async def test_after_an_error_one_row_goes_alone(bus: Any, new_outbox: Any, eventually: Any, monkeypatch: Any) -> None:
    """In a larger batch the first could be refused, and those behind it taken, if the reason ends in its midst."""
    await bus.add_bot(1)
    sizes: list[int] = []

    async def counted(held: Any, commands: Any, **more: Any) -> list[Any]:
        if added := sum(command[0] == "XADD" for command in commands):
            sizes.append(added)
        return await execute(held, commands, **more)

    monkeypatch.setattr("botctl.bus.relay.execute", counted)
    outbox = new_outbox()
    outbox.put(*(tick(str(n)) for n in range(40)))
    relay = await start_relay(bus, 1, outbox)
    await eventually(lambda: not outbox.rows)
    assert sizes == [1, 2, 4, 8, 16, 9]
    await bus.redis.delete(bus.topology.out(1))
    sizes.clear()
    outbox.put(*(tick(f"more-{n}") for n in range(40)))
    relay.wake()
    await eventually(lambda: len(sizes) > 3 and not relay.healthy)
    assert sizes[0] > 1
    assert set(sizes[1:]) == {1}
    await bus.admin.ensure_out(1)
    await eventually(lambda: not outbox.rows)
    assert sizes[-6:] == [1, 2, 4, 8, 16, 9]
