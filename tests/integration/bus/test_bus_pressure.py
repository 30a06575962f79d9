"""A flood, and a bot that does not read: what others publish arrives, whole and in order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from botctl.bus.events import encode_event
from botctl.bus.reading.dead_letters import DeadLetters
from botctl.bus.reading.mailbox import Mailbox
from botctl.bus.routing import pressure as pressure_module
from botctl.bus.routing import router as router_module
from botctl.bus.routing.allowance import Allowance
from support.bus_steps import logged, tick

ALPHA, BETA, GAMMA, DEAD = 1, 2, 3, 4
LIMIT = 400


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small mailboxes that are looked after often."""
    monkeypatch.setattr(router_module, "_TIDY_EVERY", 0.05)
    monkeypatch.setattr(router_module.Janitor.__init__, "__kwdefaults__",
                        {**(router_module.Janitor.__init__.__kwdefaults__ or {}), "mailbox_limit": LIMIT})  # fmt: skip


async def publish(bus: Any, bot_id: int, name: str, count: int) -> None:
    """As fast as it goes."""
    client = bus.bot_client(bot_id)
    for start in range(0, count, 100):
        async with client.pipeline(transaction=False) as pipe:
            for n in range(start, min(count, start + 100)):
                pipe.xadd(bus.topology.out(bot_id), {"e": encode_event(tick(f"{name}-{n}"))})
            await pipe.execute()


class Reader:
    """A bot that reads its mailbox, a hundred entries in 20 ms."""

    def __init__(self, bus: Any, bot_id: int) -> None:
        self.ids: list[str] = []
        self._mailbox = Mailbox(bus.bot_client(bot_id, blocking=True), bus.topology, bot_id)

    def of(self, name: str) -> list[str]:
        return [one for one in self.ids if one.startswith(name)]

    async def run(self) -> None:
        while True:
            entries = await self._mailbox.read(100)
            self.ids += [entry.event.id for entry in entries if entry.event is not None]
            await self._mailbox.ack([entry.id for entry in entries])
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_a_flood_takes_no_event_of_another_away(bus: Any, eventually: Any) -> None:
    for bot_id in (ALPHA, GAMMA):
        await bus.add_bot(bot_id)
    await bus.add_bot(BETA, "custom.*")
    router = bus.router()
    bus.start(router)
    reader = Reader(bus, BETA)
    reading = asyncio.create_task(reader.run())
    flood = asyncio.create_task(publish(bus, ALPHA, "alpha", 6_000))
    try:
        for n in range(40):
            await publish(bus, GAMMA, f"gamma-{n:02}", 10)
        await flood
        await eventually(lambda: len(reader.of("gamma")) == 400, 30)
        await eventually(lambda: len(reader.of("alpha")) == 6_000, 30)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert router.stats.dropped == 0
    assert reader.of("alpha") == [f"alpha-{n}" for n in range(6_000)]
    assert reader.of("gamma") == [f"gamma-{n:02}-{m}" for n in range(40) for m in range(10)]


@pytest.mark.usefixtures("quick")
async def test_a_bot_that_never_reads_holds_up_nobody_for_long(
    bus: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure_module, "PATIENCE", 2.0)
    monkeypatch.setattr(pressure_module._Mailbox.__init__, "__defaults__",
                        tuple(2.0 if value == 30.0 else value
                              for value in pressure_module._Mailbox.__init__.__defaults__ or ()))  # fmt: skip
    await bus.add_bot(ALPHA)
    await bus.add_bot(GAMMA)
    await bus.add_bot(BETA, "custom.*")
    await bus.add_bot(DEAD, "custom.*")
    router = bus.router()
    bus.start(router)
    reader = Reader(bus, BETA)
    reading = asyncio.create_task(reader.run())
    try:
        await publish(bus, ALPHA, "alpha", 3_000)
        await eventually(lambda: len(reader.of("alpha")) > LIMIT / 4)
        await publish(bus, GAMMA, "gamma", 50)
        await eventually(lambda: len(reader.of("gamma")) == 50, 5)
        assert len(reader.of("alpha")) < 3_000, "alpha waits, gamma doesn't"
        await eventually(lambda: len(reader.of("alpha")) == 3_000, 30)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert reader.of("alpha") == [f"alpha-{n}" for n in range(3_000)]
    assert len(await logged(bus)) == 3_050
    await eventually(lambda: router.stats.dropped > 0)
    reasons = [letter.reason for letter in await DeadLetters(bus.redis, bus.topology).list()]
    assert any(one.startswith("overflow: ") and "of bot 1" in one for one in reasons), reasons
    assert not any("bot 2" in one for one in reasons)


async def test_a_bot_with_many_receivers_fills_their_mailboxes_no_faster_than_it_may(
    bus: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_module, "_SWEEP_WITH_DOORBELL", 0.05)
    now = [100.0]
    for bot_id in (ALPHA, GAMMA):
        await bus.add_bot(bot_id)
    for bot_id in range(10, 15):
        await bus.add_bot(bot_id, "custom.*")
    router = bus.router(allowance=Allowance(lambda: now[0], copies=100_000, copies_rate=20_000))
    client, large = bus.bot_client(ALPHA), "x" * 8_000
    for n in range(12):
        await client.xadd(bus.topology.out(ALPHA), {"e": encode_event(tick(f"alpha-{n}", text=large))})
    bus.start(router)
    await publish(bus, GAMMA, "gamma", 3)
    await eventually(lambda: router.stats.routed == 6)
    assert sorted(await logged(bus)) == [*(f"alpha-{n}" for n in range(3)), *(f"gamma-{n}" for n in range(3))]

    def later() -> bool:
        now[0] += 0.1
        return router.stats.routed == 15

    await eventually(later)
    assert [one for one in await logged(bus) if "alpha" in one] == [f"alpha-{n}" for n in range(12)]
    assert router.stats.duplicates == router.stats.vanished == 0
