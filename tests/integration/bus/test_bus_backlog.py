"""A long time without Redis: what has waited in the outboxes comes through, whole and in order, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from botctl.bus.events import Event, Log
from botctl.bus.reading.reader import read_log
from botctl.bus.relay import Relay
from botctl.bus.routing.allowance import Allowance

# pytest gives `make_bus` from conftest.py; its type can't be imported from there.
Bus = Any
BOTS, EVENTS = (1, 2, 3, 4), 2_500


def ample() -> Allowance:
    """Nobody waits for having published much: only for room."""
    return Allowance(lambda: 0.0, burst=1e12, events=1e12)


async def test_a_backlog_larger_than_its_share_of_the_memory_comes_through_whole_and_in_order(
    make_server: Callable[..., Any],
    make_bus: Callable[[str], Bus],
    new_outbox: Callable[[], Any],
    eventually: Callable[..., Any],
) -> None:
    server = make_server("--maxmemory", "60mb")
    bus = make_bus(server.url)
    for bot in BOTS:
        await bus.add_bot(bot)
    outboxes = {bot: new_outbox() for bot in BOTS}
    for n in range(EVENTS):
        for bot, outbox in outboxes.items():
            outbox.put(Event(id=f"{bot}-{n}", type="shop.paid", occurred_at=1.0, data={"n": n, "text": "x" * 1500}))
    router = bus.router(allowance=ample())
    relays = {bot: Relay(bus.bot_client(bot), bus.topology, bot, outboxes[bot]) for bot in BOTS}
    lost: list[Any] = []
    router.janitor._on_dropped = lost.append
    most = 0
    for relay in relays.values():
        bus.start(relay)

    async def held() -> int:
        nonlocal most
        sizes = [int(await bus.redis.xlen(bus.topology.out(bot))) for bot in BOTS]
        most = max(most, *sizes)
        return sum(sizes)

    async def waits() -> bool:
        return await held() > 40  # the router isn't there yet: whoever relays has to wait for it

    await eventually(waits)
    bus.start(router)

    async def through() -> bool:
        await held()
        return router.stats.routed >= len(BOTS) * EVENTS and not any(outbox.rows for outbox in outboxes.values())

    await eventually(through, timeout=60)
    assert router.stats.routed == len(BOTS) * EVENTS
    assert router.stats.dropped == 0 or lost == []
    assert most < 1_000
    got: dict[str, list[int]] = {}
    async for _, event in read_log(bus.redis, bus.topology, Log.BOT):
        got.setdefault(event.source, []).append(event.data["n"])
    # The log itself keeps to its share: what it has of each bot is in order and without a gap.
    for bot in BOTS:
        numbers = got[f"bot:{bot}"]
        assert numbers == list(range(numbers[0], EVENTS))
