"""The router on a server on which not all is made, or that isn't the one it was: it leaves everything as it is."""

from __future__ import annotations

import asyncio
from typing import Any

from botctl.bus.events import encode_event
from support.bus_steps import tick


async def test_nothing_is_routed_on_a_server_that_is_not_known(bus: Any, eventually: Any) -> None:
    await bus.add_bot(1)
    out, known, strange = bus.topology.out(1), [None], asyncio.Event()
    await bus.know()
    router = bus.router(server=lambda: known[0], on_stranger=strange.set, sweep_every=0.02)
    bus.start(router)

    async def looked_twice() -> None:
        for _ in range(2):
            strange.clear()
            await strange.wait()

    async def publish(event_id: str) -> None:
        await bus.redis.xadd(out, {"e": encode_event(tick(event_id))})

    await publish("a")
    await looked_twice()
    known[0] = "another:server"
    await looked_twice()
    assert (router.stats.routed, await bus.redis.xlen(out)) == (0, 1)

    known[0] = await bus.admin.run_id()
    await eventually(lambda: router.stats.routed == 1)

    await bus.redis.delete(bus.topology.marker, out)
    await looked_twice()
    assert not await bus.redis.exists(out), "it doesn't make what is to be made later"
    await publish("b")
    await bus.admin.ensure_bots({1: ["0" * 64]})
    await looked_twice()
    assert (router.stats.routed, await bus.redis.xlen(out)) == (1, 1)
    await bus.know()
    known[0] = await bus.admin.run_id()
    await eventually(lambda: router.stats.routed == 2)
